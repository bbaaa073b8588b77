"""Releases on a device's disk.

    <folder>/running.json                 {"current": NAME, "previous": NAME or null}
    <folder>/releases/<NAME>/manifest.json  the signed envelope
    <folder>/releases/<NAME>/model

A release is written aside, synced and renamed into `releases/`; then one atomic replacement of
`running.json` makes it the current one. Until that moment the device runs what it ran before, and
whatever interrupts it leaves only files that the next installation removes.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fededge import storage
from fededge.documents import Release, VariantFile, check_model
from fededge.errors import IntegrityError, ReleaseError, StorageError
from fededge.signing import LIMIT, TrustedKey

Name = Annotated[str, Field(pattern=r"^[0-9]{1,12}-[0-9a-f]{16}$")]


class _Pointer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    current: Name
    previous: Name | None


@dataclass(frozen=True)
class Installed:
    """A release whose signature and model digest were verified.

    Attributes:
        name: of its folder.
        manifest: the signed release.
        variant: the one for this device's class.
        model: the model file's bytes.
    """

    name: str
    manifest: Release
    variant: VariantFile
    model: bytes


class Installation:
    """The releases of one task on one device; a second process on the same folder is refused.

    Args:
        folder: the device's own, made where missing.
        task: name of the task.
        device_class: of this device.
        trusted: public key that releases must be signed by.
        reading: whether it only looks, beside the process that installs.

    Raises:
        StorageError: the folder cannot be made.
        ReleaseError: another process works in it.
    """

    def __init__(
        self, folder: Path, task: str, device_class: str, trusted: TrustedKey, *, reading: bool = False
    ) -> None:
        self._task = task
        self._device_class = device_class
        self._trusted = trusted
        self._pointer = folder / "running.json"
        self._releases = folder / "releases"
        self._lock = FileLock(folder / "lock", thread_local=False)
        if reading:
            return
        try:
            self._releases.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ReleaseError(
                f"another agent works in {folder}. Stop it, or give this one its own folder"
            ) from error
        except OSError as error:
            raise StorageError(
                f"cannot use the device folder {folder}: {error.strerror}. Check its permissions"
            ) from error

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.release()

    def names(self) -> list[str]:
        """Names of the current and the previous release, in this order; empty on a new device.

        Raises:
            IntegrityError: `running.json` is damaged.
        """
        if not self._pointer.exists():
            return []
        try:
            pointer = _Pointer.model_validate_json(storage.read(str(self._pointer), LIMIT))
        except ValidationError as error:
            raise IntegrityError(f"{self._pointer} is damaged: fetching the release again") from error
        return [name for name in (pointer.current, pointer.previous) if name]

    def open(self, name: str) -> Installed:
        """The installed release `name`, verified again from its signature to its bytes.

        Raises:
            StorageError, IntegrityError, ReleaseError: it is no longer what was installed.
        """
        folder = self._releases / name
        envelope = storage.read(str(folder / "manifest.json"), LIMIT)
        found, manifest, variant = self.verify(envelope)
        if found != name:
            raise IntegrityError(f"{folder} holds release {found}: fetching the release again")
        model = storage.read(str(folder / "model"), variant.bytes)
        check_model(variant, model)
        return Installed(name, manifest, variant, model)

    def verify(self, envelope: bytes) -> tuple[str, Release, VariantFile]:
        """Name, manifest and this device's variant of a fetched `envelope`.

        Raises:
            IntegrityError: not signed by the trusted key.
            ReleaseError: not for this task or class.
        """
        manifest = Release.opened(envelope, self._trusted, self._task)
        return _name(manifest, envelope), manifest, manifest.variant_for(self._device_class)

    def install(self, release: Installed, envelope: bytes, running: str | None) -> None:
        """Make the verified `release` the current one, and `running` (if any) the previous.

        Raises:
            StorageError: a write failed; what was current still is.
        """
        try:
            staging = Path(tempfile.mkdtemp(dir=self._releases, prefix=".new-"))
            try:
                storage.write(str(staging / "manifest.json"), envelope)
                storage.write(str(staging / "model"), release.model)
                target = self._releases / release.name
                shutil.rmtree(target, ignore_errors=True)  # damaged, or left by an interruption
                os.rename(staging, target)
                storage.sync_folder(self._releases)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
        except OSError as error:
            raise StorageError(
                f"cannot install release {release.name} in {self._releases}: {error.strerror}. Free space"
            ) from error
        pointer = _Pointer(current=release.name, previous=running)
        storage.write(str(self._pointer), pointer.model_dump_json().encode())
        self._prune({release.name, running})

    def go_back(self, running: str | None) -> None:
        """Make an installed release the current one again, with none before it; None: there is none.

        Raises:
            StorageError: a write failed; what was current still is.
        """
        if running is not None:
            pointer = _Pointer(current=running, previous=None)
            storage.write(str(self._pointer), pointer.model_dump_json().encode())
            return
        try:
            self._pointer.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot remove {self._pointer}: {error.strerror}. Check its permissions"
            ) from error

    def _prune(self, keep: set[str | None]) -> None:
        with suppress(OSError):  # what stays is removed the next time
            for folder in self._releases.iterdir():
                if folder.name not in keep:
                    shutil.rmtree(folder)


def _name(manifest: Release, envelope: bytes) -> str:
    return f"{manifest.version}-{storage.digest(envelope).removeprefix('sha256:')[:16]}"
