"""Checkpoints: the state after each committed round, authenticated with a key of the run.

The store that keeps them is trusted with availability alone. A checkpoint carries an HMAC-SHA256 (RFC 2104)
under a key that whoever can only write the store does not have, over the run, the round and the state. One
that is damaged, of another run or of another round is named and passed over for the one before it.

    16 bytes   MAGIC
    32 bytes   HMAC-SHA256(key, MAGIC, run, round, state), lengths before each part
    the rest   the state (fededge.learning.state)
"""

import hmac
import os
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fededge import settings, storage
from fededge.errors import FedEdgeError, IntegrityError, StorageError
from fededge.learning.state import LIMIT, State

MAGIC = b"fededge-check-1\n"
TAG_BYTES = 32
KEY_BYTES = 32
SECRET_LIMIT = 1 << 12


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: URL of the folder that holds them.
        run: id of the run.
        key: 32 secret bytes of this run; see `run_key`.
    """

    folder: str
    run: str
    key: bytes

    def save(self, state: State) -> None:
        """Write the checkpoint of `state.round`, whole or not at all.

        Raises:
            StorageError: it cannot be written; what stood there before still does.
        """
        data = state.to_bytes()
        storage.write(self._url(state.round), MAGIC + self._tag(state.round, data) + data)

    def load(self, number: int) -> State:
        """The state after round `number`.

        Raises:
            StorageError: there is none, or it cannot be read.
            IntegrityError: it was not written by this run for this round, or was changed since.
        """
        url = self._url(number)
        content = storage.read(url, LIMIT)
        start = len(MAGIC) + TAG_BYTES
        tag, data = content[len(MAGIC) : start], content[start:]
        if not content.startswith(MAGIC) or not hmac.compare_digest(tag, self._tag(number, data)):
            raise IntegrityError(
                f"{url} is not a checkpoint that run {self.run} wrote for round {number}, or was changed since. "
                "Remove it, and find out who can write there"
            )
        return State.from_bytes(data, url)

    def newest(self, after: int, until: int, passed_over: Callable[[str], None]) -> State | None:
        """The last good checkpoint of a round in (`after`, `until`]; None where there is none.

        Args:
            after: rounds up to this one are not looked at.
            until: nor are rounds after this one.
            passed_over: told in one line of each checkpoint that is not good.
        """
        for number in sorted(filter(lambda n: after < n <= until, self._rounds()), reverse=True):
            try:
                return self.load(number)
            except FedEdgeError as error:
                passed_over(f"checkpoint of round {number} passed over: {error}")
        return None

    def forget(self, number: int) -> None:
        """Remove the checkpoint of round `number`, where there is one."""
        storage.remove(self._url(number))

    def _rounds(self) -> list[int]:
        names = [name.removesuffix(".checkpoint") for name in storage.names(self.folder)]
        return [int(name) for name in names if name.isascii() and name.isdigit()]

    def _url(self, number: int) -> str:
        return storage.join(self.folder, f"{number:06d}.checkpoint")

    def _tag(self, number: int, data: bytes) -> bytes:
        authenticator = hmac.new(self.key, MAGIC, "sha256")
        for part in (self.run.encode(), struct.pack(">Q", number), data):
            authenticator.update(struct.pack(">Q", len(part)))
            authenticator.update(part)
        return authenticator.digest()


def run_key(run: str) -> bytes:
    """The key of the run's checkpoints.

    On this machine it is a file of mode 0600 in the run's folder, made when first asked for. On a cluster
    it is derived by HKDF-SHA256 (RFC 5869) with the run's id from the secret that run_rounds alone mounts
    (FEDEDGE_CHECKPOINT_KEY_FILE).

    Raises:
        StorageError: the file cannot be read or made.
        IntegrityError: the file holds too little to be a secret.
    """
    path = settings.checkpoint_key_file()
    if path is None:
        return _own_key(settings.home() / "runs" / run / "checkpoint.key")
    secret = storage.read(str(path), SECRET_LIMIT)
    if len(secret) < KEY_BYTES:
        raise IntegrityError(
            f"{path} holds {len(secret)} bytes where a checkpoint secret has at least {KEY_BYTES}: "
            "make one with `openssl rand 32`"
        )
    derive = HKDF(
        algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"fededge checkpoint\0" + run.encode()
    )
    return derive.derive(secret)


def _own_key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(KEY_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, path)
            except FileExistsError:
                pass  # another process of this run was first
            finally:
                temporary.unlink()
            storage.sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot make the checkpoint key {path}: {error}. Free space or fix permissions"
        ) from error
    key = storage.read(str(path), SECRET_LIMIT)
    if len(key) != KEY_BYTES:
        raise IntegrityError(
            f"{path} holds {len(key)} bytes, not a key of {KEY_BYTES}. Start with `fededge run --fresh`"
        )
    return key
