"""The four environments under .venvs, each made from its lock file and stamped when it is whole.

A stamp says what an environment was made from: Python, place, lock files and project metadata. It is
written last and at once, so an interrupted set-up leaves none and the environment is made anew.
"""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fededge.host.layout import (
    IMAGES,
    NAMES,
    NOTEBOOK_LOCK,
    ROOT,
    UV,
    VENVS,
    Command,
    call,
    interpreter,
    lock_file,
    python_version,
    require,
    say,
)

Stamp = dict[str, str]
# What the environments' own entry of this project is made from.
METADATA = ("setup.cfg", "images/build.lock")
TORCH = ("torch==2.13.0+cpu", "mpmath<1.4", "torchmetrics")
"""What the tests of PyTorch need beside the locks. Only PyTorch's own CPU index, or a wheel on this machine, has the
version with +cpu; the one on PyPI brings gigabytes for GPUs."""


def set_up(tests: bool = False) -> None:
    """Make every environment that is missing or out of date; with `tests`, what the tests need, too.

    Raises:
        SetupError: something could not be installed.
    """
    VENVS.mkdir(exist_ok=True)
    with _alone():
        missing = [name for name in NAMES if not _is_current(name, tests)]
        if not missing:
            say(f"environments are ready in {VENVS}: nothing to set up")
            return
        install_uv()
        for name in missing:
            _install(name, tests)


def install_uv() -> None:
    """uv, the installer of the rest, from the registry into an environment of its own."""
    folder = VENVS / "uv"
    wanted = {"python": python_version(), "place": str(folder), "uv": _digest(IMAGES / "uv.lock")}
    if _read(folder) == wanted:
        return
    say("uv: installing the installer from images/uv.lock")
    _forget(folder)
    require(
        "making an environment for uv (Debian: package python3-venv)",
        [sys.executable, "-m", "venv", "--clear", folder],
    )
    pip: Command = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    require("installing uv", [*pip, "--no-deps", "--require-hashes", "-r", IMAGES / "uv.lock"])
    _write(folder, wanted)


def _install(name: str, tests: bool) -> None:
    folder, locks = VENVS / name, [lock_file(name)]
    if tests:
        locks.append(lock_file(name, tests=True))
    before, wanted = _read(folder), _wanted(name, tests)
    _forget(folder)
    uv = {"UV_COMPILE_BYTECODE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    if any(before.get(key) != wanted[key] for key in ("python", "place")):
        require(
            f"making the environment {name}",
            [UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
            uv,
        )
    say(f"{name}: installing " + " and ".join(str(lock.relative_to(ROOT)) for lock in locks))
    build: Command = ["--build-constraints", IMAGES / "build.lock", "--require-build-hashes"]
    target: Command = ["--quiet", "--python", interpreter(name)]
    require(f"installing {name}", [UV, "pip", "sync", *target, "--require-hashes", *build, *locks], uv)
    require(
        f"installing fededge into {name}",
        [UV, "pip", "install", *target, "--no-deps", *build, "-C", "editable_mode=compat", "-e", ROOT],
        uv,
    )
    if tests and name == "worker":
        _add_torch()
    _write(folder, wanted)


def _add_torch() -> None:
    """Add PyTorch to the worker environment where pip, which alone looks at local wheels, has its CPU wheel."""
    pip: Command = [VENVS / "uv" / "bin" / "python", "-m", "pip", "--python", interpreter("worker")]
    options: Command = ["install", "--quiet", "--disable-pip-version-check"]
    with open(os.devnull, "w") as nowhere:
        if call([*pip, *options, *TORCH], output=nowhere):
            say(f"worker: pip finds no {TORCH[0]} here, so the tests of PyTorch will skip")


def add_notebook() -> None:
    """Add Jupyter to the platform environment, which must be set up.

    Raises:
        SetupError: it could not be installed.
    """
    with _alone():
        say(f"platform: adding {NOTEBOOK_LOCK.relative_to(ROOT)}")
        target: Command = ["--quiet", "--python", interpreter("platform")]
        require(
            "installing Jupyter",
            [UV, "pip", "install", *target, "--no-deps", "--require-hashes", "-r", NOTEBOOK_LOCK],
        )


def _wanted(name: str, tests: bool) -> Stamp:
    stamp = {
        "python": python_version(),
        "place": str(VENVS / name),
        "project": _digest(*(ROOT / file for file in METADATA)),
        "requirements": _digest(lock_file(name)),
    }
    if not tests:
        return stamp
    beside = {"beside": " ".join(TORCH)} if name == "worker" else {}
    return {**stamp, **beside, "test": _digest(lock_file(name, tests=True))}


def _is_current(name: str, tests: bool) -> bool:
    """Whether the environment holds what is wanted; that it holds more, for tests, does no harm."""
    wanted, found = _wanted(name, tests), _read(VENVS / name)
    return interpreter(name).exists() and all(found.get(key) == value for key, value in wanted.items())


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _read(folder: Path) -> Stamp:
    try:
        stamp: Stamp = json.loads((folder / "stamp.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return stamp


def _write(folder: Path, stamp: Stamp) -> None:
    temporary = folder / "stamp.json.new"
    temporary.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    os.replace(temporary, folder / "stamp.json")


def _forget(folder: Path) -> None:
    (folder / "stamp.json").unlink(missing_ok=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of .venvs, so that two set-ups at once do not spoil each other's work."""
    with (VENVS / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this checkout to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
