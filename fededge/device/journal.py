"""What left a site: one JSON line for each message and each piece of an update, written and synced before it is sent.

    {"number": 3, "at": 1795246255.4, "purpose": "report", "round": "r-1", "bytes": 212, "digest": "sha256:...",
     "content": "{...}", "chain": "sha256:..."}

`chain` is the digest of the line before and of this one without it, so that a line which was changed, taken out or put
in breaks the chain. A last line that was cut short by a power failure was never followed by a sending, and is removed.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.device.clock import Clock
from fededge.errors import IntegrityError, StorageError

LARGEST_LINE = 1 << 18
"""Most bytes of a line: a message and what is said of it."""
START = "sha256:" + "0" * 64
"""What the first line is chained to."""


@dataclass(frozen=True)
class Verified:
    """A journal without a fault: how many lines it has, and the chain after the last."""

    lines: int
    chain: str


class Journal:
    """The journal in the file `path`, made where it is missing; one process writes it.

    Raises:
        StorageError: the file cannot be read or written.
        IntegrityError: its last line is none of a journal.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        try:
            if not path.exists():
                storage.write(str(path), b"")
                path.chmod(0o600)
            self._repair()
            last = self._last()
        except OSError as error:
            raise self._unwritable(error) from error
        self._number: int = last["number"] if last else 0
        self._chain: str = last["chain"] if last else START

    def write(self, purpose: str, data: bytes, *, round: str | None = None, content: bool = True) -> None:
        """Write down that `data` is about to be sent; returns once that will survive a power failure.

        Args:
            purpose: what is sent: hello, report, update, ...
            data: the bytes themselves.
            round: that they belong to.
            content: whether to keep them as text, too.

        Raises:
            StorageError: it cannot be written: then nothing may be sent.
        """
        told = {"content": data.decode()} if content else {}
        self.note(purpose, storage.digest(data), len(data), round=round, **told)

    def note(self, purpose: str, digest: str, size: int, *, round: str | None = None, **told: Any) -> None:
        """As `write`, of `size` bytes that are known by the digest of the whole that they are of."""
        line: dict[str, Any] = {"number": self._number + 1, "at": self._clock.now().wall, "purpose": purpose}
        line |= {"round": round, "bytes": size, "digest": digest} | told
        chain = _chained(self._chain, line)
        text = json.dumps({**line, "chain": chain}, sort_keys=True).encode() + b"\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                start, rest = file.tell(), memoryview(text)
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self._path, start)
                    raise
        except OSError as error:
            raise self._unwritable(error) from error
        self._number, self._chain = line["number"], chain

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"cannot write the journal {self._path}: {error.strerror}. Nothing is sent before it can be: free space"
        )

    def _repair(self) -> None:
        """Remove the end of a last line that was cut short."""
        size = self._path.stat().st_size
        tail = self._tail(size)
        if tail and not tail.endswith(b"\n"):
            os.truncate(self._path, size - len(tail) + tail.rfind(b"\n") + 1)

    def _tail(self, size: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(max(0, size - 2 * LARGEST_LINE))
            return file.read()

    def _last(self) -> dict[str, Any] | None:
        lines = self._tail(self._path.stat().st_size).splitlines()
        return _parsed(lines[-1], "its last line") if lines else None


def verify(path: Path) -> Verified:
    """The journal in `path`, once each line is proven to follow the one before.

    Raises:
        StorageError: it cannot be read.
        IntegrityError: a line was changed, removed or put in.
    """
    number, chain = 0, START
    try:
        with path.open("rb") as file:
            while text := file.readline(LARGEST_LINE + 1):
                if not text.endswith(b"\n") and len(text) <= LARGEST_LINE:
                    break  # being written, or cut short: nothing was sent after it
                number += 1
                line = _parsed(text, f"line {number:,}")
                said = line.pop("chain")
                chain = _chained(chain, line)
                if line["number"] != number or said != chain:
                    raise IntegrityError(
                        f"{path}: line {number:,} does not follow the line before: something was changed, removed or put "
                        "in there or before. Compare it with a copy"
                    )
    except OSError as error:
        raise StorageError(
            f"cannot read the journal {path}: {error.strerror}. Name the site's folder"
        ) from error
    return Verified(number, chain)


def _chained(before: str, line: dict[str, Any]) -> str:
    return storage.digest(f"{before}\n{json.dumps(line, sort_keys=True)}".encode())


def _parsed(text: bytes, which: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    known = (
        isinstance(line, dict) and isinstance(line.get("number"), int) and isinstance(line.get("chain"), str)
    )
    if not known or len(text) > LARGEST_LINE:
        raise IntegrityError(f"the journal is damaged: {which} is none of a journal. Compare it with a copy")
    return dict(line)
