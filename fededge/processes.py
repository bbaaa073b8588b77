"""Processes that end as they should: children with their owner, a step with its clean-up done."""

import contextlib
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from fededge.errors import EnvironmentMissing


def owned(command: Sequence[str | Path]) -> list[str]:
    """`command`, to be started so that the kernel kills it when the thread that starts it is gone.

    Raises:
        EnvironmentMissing: this machine lacks setpriv.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EnvironmentMissing(
            f"setpriv is not on PATH, and without it {Path(command[0]).name} could outlive its owner: "
            "install util-linux"
        )
    return [setpriv, "--pdeathsig", "KILL", "--", *map(str, command)]


@contextlib.contextmanager
def ended_by_exception() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the block, so that what it started is ended; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
