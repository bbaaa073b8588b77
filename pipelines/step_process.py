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

from fededge.processes import owned

LIVE = "fededge:"
"""A step's output line that starts so is shown while the step runs."""
POLL = 0.05
GRACE = 10.0


class StepProcess:
    """A running step.

    Args:
        command: what to run.
        environment: all its environment variables.
        log: file that gets its output, in place of an earlier one.

    Raises:
        EnvironmentMissing: this machine lacks setpriv.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._deadline: float | None = None
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                owned(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def wait(self, live: Callable[[str], None]) -> int:
        """Exit status of the step, once it has ended; its live lines go to `live` meanwhile."""
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            rest = ""
            while True:
                ended = self._ended()
                rest += lines.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    if line.startswith(LIVE):
                        live(line.removeprefix(LIVE).strip())
                if ended:
                    return self._process.returncode

    def stop(self) -> None:
        """Ask the step and what it started to end; after the grace time, `wait` ends them by force."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE
            self._signal(signal.SIGTERM)

    def _ended(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(POLL)
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._signal(signal.SIGKILL)
        return self._process.returncode is not None

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
