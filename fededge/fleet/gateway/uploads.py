"""Receiving an object: streamed to a file of its own, hashed on the way, bounded by the size that was announced.

Once its size and digest are right it is synced and becomes an object (`Upload.settle`), while the registry is told of it;
the sender is told after both. A sender that was cut off goes on where the file ends; one process at a time writes to it.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fededge import storage
from fededge.errors import GatewayError, StorageError
from fededge.fleet.gateway.grants import Grant
from fededge.fleet.gateway.objects import Files

BLOCK = 1 << 20


class Upload:
    """An object that is being sent. Its methods write files: they are called in threads, one after the other.

    Args:
        files: where it will lie.
        grant: what may be sent.
        offset: where the sender goes on.

    Attributes:
        size: bytes that are there.

    Raises:
        GatewayError: it goes on elsewhere (409 OFFSET), or another request sends it just now (503 BUSY).
        StorageError: the file cannot be opened.
    """

    def __init__(self, files: Files, grant: Grant, offset: int) -> None:
        self._target = files.path(grant.tenant, grant.digest, grant.owner)
        self._path = files.partial(grant)
        self._grant = grant
        self._hasher = hashlib.sha256()
        with _failures(self._path):
            self._file = _locked(self._path)
            try:
                self.size = self._go_on(offset)
            except BaseException:
                self.close()
                raise

    def _go_on(self, offset: int) -> int:
        there = os.fstat(self._file).st_size
        if offset > there:
            raise GatewayError(
                f"{there:,} bytes are there, and this goes on at {offset:,}: ask with HEAD, then go on",
                "OFFSET",
                409,
            )
        os.ftruncate(self._file, offset)
        left = offset
        while left and (block := os.read(self._file, min(BLOCK, left))):
            self._hasher.update(block)
            left -= len(block)
        return offset

    def write(self, blocks: Sequence[bytes]) -> None:
        """Append what is in `blocks`.

        Raises:
            GatewayError: that is more than was announced (413); nothing of it is kept.
            StorageError: it cannot be written.
        """
        size = self.size + sum(map(len, blocks))
        if size > self._grant.bytes:
            self._forget()
            raise GatewayError(
                f"more than the {self._grant.bytes:,} bytes that were announced: send the object of "
                f"{self._grant.digest}, from its start",
                "TOO_LARGE",
                413,
            )
        with _failures(self._path):
            for block in blocks:
                self._hasher.update(block)
                view = memoryview(block)
                while view:
                    view = view[os.write(self._file, view) :]
        self.size = size

    def finish(self, blocks: Sequence[bytes]) -> bool:
        """Append the last `blocks`; whether all of it is there then, to `settle`.

        Raises:
            GatewayError: see `write`.
            GatewayError: its digest is another one (422); nothing of it is kept.
            StorageError: it cannot be written.
        """
        self.write(blocks)
        if self.size < self._grant.bytes:
            return False
        found = f"sha256:{self._hasher.hexdigest()}"
        if found != self._grant.digest:
            self._forget()
            raise GatewayError(
                f"these bytes have digest {found}, and {self._grant.digest} was announced: send them again, from the "
                "start",
                "DIGEST",
                422,
            )
        return True

    def settle(self) -> None:
        """Make it an object, which any power cut leaves whole.

        Raises:
            StorageError: it cannot be written.
        """
        with _failures(self._path):
            os.fsync(self._file)
            _make(self._target.parent)
            self._path.replace(self._target)
            storage.sync_folder(self._target.parent)

    def close(self) -> None:
        """Let another request go on."""
        os.close(self._file)

    def _forget(self) -> None:
        self._path.unlink(missing_ok=True)


def settle(files: Files, grant: Grant) -> None:
    """See that an object which is there stays there.

    Raises:
        StorageError: its folder cannot be written.
    """
    path = files.path(grant.tenant, grant.digest, grant.owner)
    with _failures(path):
        storage.sync_folder(path.parent)


def _locked(path: Path) -> int:
    """A descriptor of the file `path` that no other process or request has."""
    _make(path.parent)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise GatewayError(
                "another request sends this object just now: wait until it ends", "BUSY", 503
            ) from error
        if os.fstat(file).st_nlink:
            return file
        os.close(file)  # it was finished or removed between open and lock


def _make(folder: Path) -> None:
    """See that `folder` is there, for good."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        storage.sync_folder(folder.parent)


@contextlib.contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}. Free space or fix permissions, then send again"
        ) from error
