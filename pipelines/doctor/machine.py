"""What this machine has of what runs here need."""

import shutil
from collections.abc import Iterator
from functools import partial

from fededge import settings
from fededge.delivery.readiness import Finding, inside, tried
from fededge.errors import StorageError
from fededge.host.layout import NAMES
from pipelines.environments import interpreter_folder

LEAST_BYTES = 2 << 30
"""Free disk that a run is sure to get by with."""


def look() -> Iterator[Finding]:
    """What runs on this machine need."""
    for name in NAMES:
        yield tried(f"environment {name}", partial(_environment, name), "make setup")
    found = shutil.which("setpriv")
    yield Finding("setpriv", found or "not on PATH", "" if found else "install util-linux")
    yield tried("disk", _room, "free space, or set FEDEDGE_HOME to a larger disk")
    yield from inside()


def _environment(name: str) -> str:
    return str(interpreter_folder(name).parent)


def _room() -> str:
    home = settings.home()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < LEAST_BYTES:
        raise StorageError(
            f"{home} has {free / 2**30:.1f} GiB free where {LEAST_BYTES / 2**30:.0f} are asked."
        )
    return f"{home} has {free / 2**30:.0f} GiB free"
