"""Released programs on a client's disk: unpacked, installed beside what runs, and tried in a child.

    <folder>/program/state.json          what is to run (fededge.device.launcher)
    <folder>/program/incoming/           what is being fetched and installed
    <folder>/program/releases/NAME/      packages/, manifest.json (the signed envelope); there whole, or not at all

Packages are installed from the release's wheels alone, without asking any index. They prevail over those that were
installed by hand, which serve for all that the release does not bring.
"""

import asyncio
import importlib.util
import json
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fededge import storage, wheels
from fededge.device import launcher
from fededge.device.child import end_all, environment
from fededge.errors import IntegrityError, ReleaseError, StorageError, shown
from fededge.processes import ended_with_parent
from fededge.signing import LIMIT

INSTALL_SECONDS, TRY_SECONDS = 900.0, 300.0
PIP = [
    *("-P", "-m", "pip", "--isolated", "--no-input", "--disable-pip-version-check", "install", "--quiet"),
    *("--no-index", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"),
]


class ProgramRefused(ReleaseError):
    """A program that cannot be installed here, or does not run."""


class Programs:
    """Those of the client in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._releases = folder / "program" / "releases"
        self.incoming = folder / "program" / "incoming"

    def manifest(self, name: str) -> bytes:
        """The signed envelope of an installed release. Raises StorageError."""
        return storage.read(str(self._releases / name / "manifest.json"), LIMIT)

    def has(self, name: str) -> bool:
        """Whether a release is installed."""
        return (self._releases / name).is_dir()

    async def install(self, name: str, envelope: bytes, bundle: Path) -> None:
        """Install the release `name` from the file `bundle`, whose digest was proven.

        Raises:
            ProgramRefused: it is no bundle, or its wheels are not for this machine.
            ReleaseError: there is no pip here.
            StorageError: it cannot be written.
        """
        unpacked, staging = self.incoming / "wheels", self.incoming / "release"
        try:
            for folder in (unpacked, staging):
                shutil.rmtree(folder, ignore_errors=True)
            files = await asyncio.to_thread(wheels.unpack, bundle, unpacked)
            if importlib.util.find_spec("pip") is None:
                raise ReleaseError(
                    f"there is no pip in {sys.prefix}: install it, then start this program again"
                )
            target = ["--target", str(staging / "packages"), *map(str, files)]
            status, said = await _ran(
                [sys.executable, *PIP, *target], environment(self.incoming), INSTALL_SECONDS
            )
            if status != 0:
                raise ProgramRefused(f"its wheels cannot be installed here: {_last_line(said, status)}")
            (staging / "manifest.json").write_bytes(envelope)
            await asyncio.to_thread(os.sync)  # all of these many files, before they are relied on
            self._releases.mkdir(exist_ok=True, mode=0o700)
            os.rename(staging, self._releases / name)
            storage.sync_folder(self._releases)
        except IntegrityError as error:
            raise ProgramRefused(str(error)) from error
        except OSError as error:
            raise StorageError(
                f"cannot install program {name} in {self._releases}: {error.strerror}. Free space"
            ) from error
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)

    async def try_out(self, name: str, version: str, kind: str, policy: Path) -> None:
        """Let an installed program look at this client's folder and policy in a child, as at a start.

        Args:
            name: of its release.
            version: that it is to have.
            kind: `agent` or `site`, as which it is run.
            policy: file.

        Raises:
            ProgramRefused: it hangs, crashes, refuses what it finds, or is of another version.
        """
        arguments = [kind, "check", "--json", "--folder", str(self._folder), "--policy", str(policy)]
        variables = launcher.environment(self._folder, name)
        status, said = await _ran(launcher.command(arguments), variables, TRY_SECONDS)
        if status != 0:
            raise ProgramRefused(f"it does not run here: {_last_line(said, status)}")
        try:
            found = json.loads(said.splitlines()[-1])["version"]
        except (ValueError, LookupError, TypeError) as error:
            raise ProgramRefused(f"it does not run here: {_last_line(said, status)}") from error
        if found != version:
            raise ProgramRefused(
                f"it says that it is version {shown(str(found))}, and was released as {version}"
            )

    def prune(self, keep: set[str | None]) -> None:
        """Remove what is fetched, and all releases but these."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        with suppress(OSError):  # what stays is removed the next time
            for folder in self._releases.iterdir():
                if folder.name not in keep:
                    shutil.rmtree(folder)


async def _ran(command: Sequence[str], variables: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """Exit status of a command, and what it said; -1 where it took longer than it may."""
    process = await asyncio.create_subprocess_exec(
        *ended_with_parent(command),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=dict(variables),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
            return int(process.returncode or 0), said.decode(errors="replace")
    except TimeoutError:
        return -1, f"it takes more than {seconds:g} s"
    finally:
        if process.returncode is None:
            await end_all(process)


def _last_line(said: str, status: int) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return shown(lines[-1], 300) if lines else f"it ends with status {status}"
