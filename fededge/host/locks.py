"""The lock files, remade from the extras of setup.cfg with uv.

images/uv.lock                    uv itself, from images/uv.in
images/build.lock                 what builds a source distribution, from images/build.in
images/sbom.lock                  what lists the packages of an image, from images/sbom.in
images/<name>/requirements.lock   the extra <name>, with what images/<name>/uv.toml says of it
images/<name>/test.lock           what the extra test adds (in platform test-platform, too)
images/platform/notebook.lock     what the extra notebook adds to platform
"""

import re
from pathlib import Path

from fededge.host.environments import install_uv
from fededge.host.layout import (
    IMAGES,
    NAMES,
    NOTEBOOK_LOCK,
    ROOT,
    UV,
    Command,
    lock_file,
    require,
    say,
)

# Locks are made for Linux (glibc 2.31 on) with Python 3.11, whatever the machine that makes them.
COMPILE = [
    *("pip", "compile", "--quiet", "--generate-hashes", "--no-header"),
    *("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_31"),
]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


def make_locks(upgrade: bool = False) -> None:
    """Remake every lock file; pins that still fit stay, unless `upgrade` asks for the newest.

    Raises:
        SetupError: the requirements contradict each other, or the registry cannot be reached.
    """
    install_uv()
    for tool in ("uv", "build", "sbom"):
        _compile(IMAGES / f"{tool}.lock", [IMAGES / f"{tool}.in"], upgrade)
    for name in NAMES:
        build: Command = ["--build-constraints", "images/build.lock"]
        _compile(lock_file(name), [*_extras(name), *_config(name), *build], upgrade)
    for name in NAMES:
        extras = ["test", *(["test-platform"] if name == "platform" else [])]
        _add(lock_file(name, tests=True), _extras(*extras), [lock_file(name)], upgrade)
    platform = [lock_file("platform"), lock_file("platform", tests=True)]
    _add(NOTEBOOK_LOCK, _extras("notebook"), platform, upgrade)


def _extras(*names: str) -> Command:
    return ["setup.cfg", *(part for name in names for part in ("--extra", name))]


def _config(name: str) -> Command:
    file = IMAGES / name / "uv.toml"
    return ["--config-file", file] if file.exists() else []


def _add(target: Path, source: Command, installed: list[Path], upgrade: bool) -> None:
    """Lock what `source` adds to the first of the locks `installed`, at the versions of all of them."""
    known = PINNED.findall(installed[0].read_text(encoding="utf-8"))
    without = [part for package in known for part in ("--no-emit-package", package)]
    pins = [part for lock in installed for part in ("--constraints", lock.relative_to(ROOT))]
    _compile(target, [*source, *pins, *without], upgrade)


def _compile(target: Path, source: Command, upgrade: bool) -> None:
    say(f"locking {target.relative_to(ROOT)}")
    newest: Command = ["--upgrade"] if upgrade else []
    output: Command = ["--output-file", target.relative_to(ROOT)]
    require(f"locking {target.name}", [UV, *COMPILE, *newest, *source, *output])
