"""One pipeline step as a process: its log, its live lines, and its certain end.

The process leads a group of its own, so that it is ended with everything it started, and the kernel
ends it when the thread that started it is gone. It writes straight to its log file: a server that
the step leaves running keeps the log open without holding up the run.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from fededge.processes import ended_with_parent

LIVE = "fededge:"
"""A step's output line that starts so is shown while the step runs."""
POLL = 0.05
GRACE = 10.0


class Process(Protocol):
    """What is asked of a started process, which leads a group of its own; `subprocess.Popen` is one."""

    pid: int
    returncode: int | None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; subprocess.TimeoutExpired where it still runs after `timeout` seconds."""
        ...


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
    """Start `command` with these environment variables and its output added to `log`.

    Raises:
        EnvironmentMissing: this machine lacks setpriv.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ended_with_parent(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


class StepProcess:
    """A running step, and the log that it writes to."""

    def __init__(self, process: Process, log: Path) -> None:
        self._log = log
        self._process = process
        self._deadline: float | None = None

    def wait(self, live: Callable[[str], None]) -> int:
        """Exit status of the step, once it has ended; its live lines go to `live` meanwhile."""
        with self._log.open(encoding="utf-8", errors="replace") as lines:
            rest = ""
            while True:
                ended = self._ended()
                rest += lines.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    if line.startswith(LIVE):
                        live(line.removeprefix(LIVE).strip())
                if ended is not None:
                    return ended

    def stop(self) -> None:
        """Ask the step and what it started to end; after the grace time, `wait` ends them by force."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE
            self._signal(signal.SIGTERM)

    def _ended(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(POLL)
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._signal(signal.SIGKILL)
        return self._process.returncode

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
