"""The lock files, remade from the extras of setup.cfg with uv.

images/uv.lock                    uv itself, from images/uv.in
images/build.lock                 what builds a source distribution, from images/build.in
images/<name>/requirements.lock   the extra <name>, with the overrides of images/<name>/uv.toml
images/<name>/test.lock           what the extra test adds to it (in platform test-platform, too)
images/platform/notebook.lock     what the extra notebook adds to both
"""

import re
from pathlib import Path

from fededge.host.environments import install_uv
from fededge.host.layout import IMAGES, NAMES, NOTEBOOK_LOCK, ROOT, UV, Command, lock_file, require, say

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
    for tool in ("uv", "build"):
        _compile(IMAGES / f"{tool}.lock", [IMAGES / f"{tool}.in"], upgrade)
    for name in NAMES:
        config: Command = []
        if (IMAGES / name / "uv.toml").exists():
            config = ["--config-file", IMAGES / name / "uv.toml"]
        config += ["--build-constraints", "images/build.lock"]
        _compile(lock_file(name), ["setup.cfg", "--extra", name, *config], upgrade)
        production = lock_file(name)
        known = PINNED.findall(production.read_text(encoding="utf-8"))
        extras: Command = ["--extra", "test"]
        if name == "platform":
            extras += ["--extra", "test-platform"]
        without = [part for package in known for part in ("--no-emit-package", package)]
        _compile(
            lock_file(name, tests=True),
            ["setup.cfg", *extras, "--constraints", production.relative_to(ROOT), *without],
            upgrade,
        )
    platform = [lock_file("platform"), lock_file("platform", tests=True)]
    known = PINNED.findall(platform[0].read_text(encoding="utf-8"))
    without = [part for package in known for part in ("--no-emit-package", package)]
    pins = [part for lock in platform for part in ("--constraints", lock.relative_to(ROOT))]
    _compile(NOTEBOOK_LOCK, ["setup.cfg", "--extra", "notebook", *pins, *without], upgrade)


def _compile(target: Path, source: Command, upgrade: bool) -> None:
    say(f"locking {target.relative_to(ROOT)}")
    newest: Command = ["--upgrade"] if upgrade else []
    output: Command = ["--output-file", target.relative_to(ROOT)]
    require(f"locking {target.name}", [UV, *COMPILE, *newest, *source, *output])
