"""Where a checkout keeps its environments and lock files, and how set-up calls other programs."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

from fededge.errors import SetupError

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".venvs"
IMAGES = ROOT / "images"
NAMES = ("platform", "worker", "serving", "edge")
NOTEBOOK_LOCK = IMAGES / "platform" / "notebook.lock"
UV = VENVS / "uv" / "bin" / "uv"
# What an activated or managed environment of the user's would otherwise make of ours.
FOREIGN = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH")


Command = list[str | Path]


def interpreter(name: str) -> Path:
    """The Python of the environment `name`."""
    return VENVS / name / "bin" / "python"


def lock_file(name: str, tests: bool = False) -> Path:
    """The lock file of the environment `name`, or of what its tests add to it."""
    return IMAGES / name / ("test.lock" if tests else "requirements.lock")


def say(text: str) -> None:
    """Name what is being done."""
    print(f"==> {text}", flush=True)


def call(
    command: Command,
    extra: Mapping[str, str] | None = None,
    output: IO[str] | None = None,
) -> int:
    """Run `command` in the checkout, its output to `output`, by default to ours; the exit status.

    Raises:
        SetupError: there is no such program, or it cannot be started.
    """
    env = _own_environment()
    try:
        return subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env={**env, **(extra or {})},
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        ).returncode
    except OSError as error:
        raise _cannot_start(command, error) from error


def become(command: Command) -> NoReturn:
    """Go on as `command`, in the checkout: the same process, so that signals reach it.

    Raises:
        SetupError: there is no such program.
    """
    os.chdir(ROOT)
    try:
        os.execve(command[0], [str(part) for part in command], _own_environment())
    except OSError as error:
        raise _cannot_start(command, error) from error


def _own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def _cannot_start(command: Command, error: OSError) -> SetupError:
    return SetupError(f"cannot start {command[0]}: {error}. Remove {VENVS} and run again")


def require(
    doing: str,
    command: Command,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Run `command` as `call` does.

    Raises:
        SetupError: it failed.
    """
    status = call(command, extra)
    if status != 0:
        line = shlex.join(str(part) for part in command[:6])
        raise SetupError(
            f"{doing} failed: {line} ... ended with status {status}. Read its message above, "
            "check network and disk space, and run again: what is finished is not done twice"
        )


def python_version() -> str:
    """The Python that environments are made with, such as 3.11.7."""
    return sys.version.split()[0]
