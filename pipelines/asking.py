"""Asking a program of the worker environment something, before any step runs: one JSON text in, one out."""

import os
import subprocess
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from fededge import errors, settings
from fededge.errors import DataError
from fededge.host.layout import VENVS
from pipelines.environments import interpreter_folder

ROOT = Path(__file__).resolve().parents[1]


class Answer(Protocol):
    """What a program answers: its findings, or the name and message of the error that it ended with."""

    error: str | None
    message: str


Given = TypeVar("Given", bound=Answer)


def ask(module: str, request: str, answer: type[Given], what: str, environments: Path = VENVS) -> Given:
    """What `module`, run as a program in the worker environment, answers to `request`.

    Args:
        module: reads the request on standard input, and writes its answer.
        request: as JSON.
        answer: model of the answer.
        what: is looked at, for the message where the program ends in another way.
        environments: folder of this machine's environments.

    Raises:
        FedEdgeError: the one that the program ended with.
        DataError: it ended without an answer.
        EnvironmentMissing: there is no worker environment here.
    """
    own = os.environ
    path = os.pathsep.join([str(ROOT), *filter(None, [own.get("PYTHONPATH")])])
    ended = subprocess.run(
        [interpreter_folder("worker", environments) / "python3", "-m", module],
        input=request,
        env={**own, **settings.without_proxy(own), "PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    try:
        given = TypeAdapter(answer).validate_json(ended.stdout)
    except ValidationError as error:
        last = ended.stderr.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
        raise DataError(
            f"{what} cannot be checked; the check ended with: {last[0][:500]}. See that they fit this machine's memory"
        ) from error
    if given.error:
        raise getattr(errors, given.error)(given.message)
    return given
