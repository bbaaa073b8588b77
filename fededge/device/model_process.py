"""The process in which a model answers: one that hangs, crashes or eats memory ends with it, and with nothing else.

It is started for the first request, as a trial's is (fededge.device.trial), and ended once nobody asks any more. The
child is fededge.device.answering; what it sends is not trusted.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fededge.device import isolation
from fededge.device.answering import ANSWER, LOADED, MESSAGE
from fededge.device.child import environment
from fededge.device.policy_keys import Limits
from fededge.device.trial import ModelRefused
from fededge.errors import StorageError, shown

IDLE_SECONDS = 600.0
"""After which a process that nobody asks is ended, for the memory that it holds."""
LARGEST_ANSWER = 64 << 20
FILE_BYTES = 1 << 20
"""Of a file that it writes."""


class _Ended(Exception):
    """The process is gone."""


@dataclass(frozen=True)
class Answering:
    """What a model answers as.

    Attributes:
        read: reads the model's bytes, which were proven.
        kind: of the variant.
        tags: told beside each answer.
        folder: of the process, made where it is missing.
        limits: of one answer, and of the process.
        hidden: tells which folders it does not see in isolation.
        isolated: whether it runs in isolation.
    """

    read: Callable[[], bytes]
    kind: str
    tags: Mapping[str, str]
    folder: Path
    limits: Limits
    hidden: Callable[[], Sequence[Path]]
    isolated: bool


class ModelProcess:
    """Answers requests with one model. One caller at a time; `close` may come from any thread."""

    def __init__(self, told: Answering) -> None:
        self._told = told
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._asked = 0.0
        self._closed = False

    def ask(self, body: bytes) -> tuple[int, bytes]:
        """Status of HTTP and body of the answer to a request; a process that ended meanwhile is asked anew, once.

        Raises:
            ModelRefused: the model hangs or crashes, or cannot be loaded: it is not to be run.
            IntegrityError, ReleaseError: its file is not what was installed.
            StorageError: its file cannot be read, or no process be started.
            SiteError: the policy has a mistake.
        """
        for _ in range(2):
            try:
                return self._exchange(self._running(), body)
            except _Ended:
                self._end()
            except ModelRefused:
                self._end()
                raise
        raise ModelRefused("the model is refused: it ends the process that answers with it")

    def rest(self) -> None:
        """End the process if nobody asked it for a while."""
        if time.monotonic() - self._asked > IDLE_SECONDS:
            self._end()

    def close(self) -> None:
        """End the process, for good."""
        self._closed = True
        self._end()

    def _running(self) -> socket.socket:
        if self._line is not None:
            return self._line
        if self._closed:
            raise StorageError("the agent is ending: ask again once it runs")
        model = self._told.read()
        line = self._started()
        status, words = self._exchange(line, model)
        if status != LOADED:
            raise ModelRefused(f"the model is refused: {shown(words.decode(errors='replace'), 300)}")
        return line

    def _started(self) -> socket.socket:
        told, folder = self._told, self._told.folder.resolve()
        spec = {"kind": told.kind, "tags": dict(told.tags), "memory_bytes": told.limits.memory_bytes}
        line, theirs = socket.socketpair()
        with theirs:
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._process = subprocess.Popen(
                    isolation.wrapped(
                        [sys.executable, "-m", "fededge.device.answering", json.dumps(spec)],
                        folder,
                        isolated=told.isolated,
                        hidden=told.hidden(),
                        cpus=told.limits.cpus,
                        file_bytes=FILE_BYTES,
                    ),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment(folder),
                    start_new_session=True,
                )
            except OSError as error:
                line.close()
                raise StorageError(
                    f"cannot start a process for a model in {folder}: {error.strerror}. Free memory or space"
                ) from error
        self._line = line
        return line

    def _exchange(self, line: socket.socket, message: bytes) -> tuple[int, bytes]:
        self._asked = time.monotonic()
        end = self._asked + self._told.limits.seconds
        try:
            line.settimeout(self._told.limits.seconds)
            line.sendall(MESSAGE.pack(len(message)) + message)
            status, length = ANSWER.unpack(_read(line, ANSWER.size, end))
            if length > LARGEST_ANSWER:
                raise ModelRefused(f"the model is refused: it answers with {length:,} bytes")
            return status, _read(line, length, end)
        except TimeoutError:
            seconds = self._told.limits.seconds
            raise ModelRefused(
                f"the model is refused: it gave no answer within the {seconds:g} s that the policy allows"
            ) from None
        except OSError as error:
            raise _Ended from error

    def _end(self) -> None:
        process, line = self._process, self._line
        self._process = self._line = None
        if process is not None:
            process.kill()
            process.wait()
        if line is not None:
            line.close()


def _read(line: socket.socket, length: int, end: float) -> bytes:
    """The next `length` bytes, no later than `end`."""
    data = bytearray()
    while len(data) < length:
        line.settimeout(max(0.001, end - time.monotonic()))
        block = line.recv(min(length - len(data), 1 << 20))
        if not block:
            raise _Ended
        data += block
    return bytes(data)
