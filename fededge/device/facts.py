"""What a site says of itself: its machine, and how many examples of which form it holds."""

import json
import logging
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import psutil

from fededge import storage
from fededge.documents import Schema
from fededge.errors import DataError, FedEdgeError, SiteError
from fededge.npy_header import rows
from fededge.protocol import Dataset

log = logging.getLogger("fededge.site")
FILES = ("train/schema.json", "train/x.npy", "test/x.npy")
"""Of a client folder: what they hold is what is told of it."""
PROBE_SECONDS = 300


def capabilities(isolated: bool) -> dict[str, str]:
    """Of this machine."""
    return {
        "processors": str(len(os.sched_getaffinity(0))),
        "memory_bytes": str(psutil.virtual_memory().total),
        "platform": f"{platform.system()}-{platform.machine()}".lower(),
        "isolation": "namespaces" if isolated else "none",
    }


def datasets(folders: Mapping[str, Path]) -> list[Dataset]:
    """What lies in the client folders of a policy, by name; one that cannot be used is left out, and the log says why."""
    found = []
    for name, folder in folders.items():
        try:
            found.append(dataset(name, folder))
        except FedEdgeError as error:
            log.warning("dataset %s is not offered: %s", name, error)
    return found


def dataset(name: str, folder: Path) -> Dataset:
    """What lies in a client folder, by the headers of its files.

    Raises:
        DataError: there are no training examples, or they do not say what they are.
        DocumentError: schema.json is malformed.
    """
    files = tuple(folder / file for file in FILES)
    return _dataset(name, files, tuple(map(storage.state_of, files)))


@lru_cache(maxsize=64)
def _dataset(name: str, files: tuple[Path, ...], state: object) -> Dataset:
    """See `dataset`; read once for each `state` of the files."""
    described, train, test = files
    if not described.exists():
        raise DataError(
            f"{described} is missing, which says what the examples are: `fededge data spread` writes it"
        )
    schema = Schema.read(described)
    return Dataset(
        name=name,
        train=rows(train),
        test=rows(test) if test.exists() else 0,
        schema_digest=schema.form_digest,
    )


def frameworks(runner: Sequence[str]) -> list[str]:
    """The frameworks whose plans the runner can execute, as it says itself.

    Raises:
        SiteError: it does not answer, or can execute none.
    """
    try:
        done = subprocess.run(
            [*runner, "--frameworks"], capture_output=True, timeout=PROBE_SECONDS, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SiteError(
            f"the runner {' '.join(runner)} does not start: {error}. Install the worker environment"
        ) from error
    if not found:
        raise SiteError("there is no framework here that plans need: run the site in the worker environment")
    return [str(name) for name in found]
