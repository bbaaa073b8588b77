"""Processes that end as they should: children with their owner, steps with their clean-up done."""

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from fededge.errors import EnvironmentMissing

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def ended_with_parent(command: Sequence[str | Path]) -> list[str]:
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


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent process, with the id `parent`, ends, however that ends.

    Where it ended already, this process ends now, with status 0.
    """
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


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


def signal_at_parents_end(number: signal.Signals) -> None:
    """Let the kernel send this process the signal `number` when its parent ends, however that ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)


def mark(pid: int | None = None) -> str:
    """What tells a process (by default this one) from all others, earlier and later ones too.

    Its machine's boot, its namespace of process ids, its id, and its start in clock ticks since that boot;
    "" where there is no such process.
    """
    pid = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {namespace} {pid} {start}"


def end(marked: str, seconds: float) -> bool:
    """Send SIGTERM to the process with this mark and wait for its end; False where it still runs then.

    A process descriptor (pidfd) is checked against the mark before it is used, so no other process that
    got the same id meanwhile is ever signalled.

    Args:
        marked: what `mark` told of it.
        seconds: how long to wait.

    Raises:
        ProcessLookupError: no process here has this mark.
        PermissionError: it belongs to another user.
    """
    found = re.fullmatch(r"\S+ \S+ ([1-9]\d{0,8}) \d+", marked)
    if found is None:
        raise ProcessLookupError(f"{marked!r} is not the mark of a process")
    descriptor = os.pidfd_open(int(found[1]))
    try:
        if mark(int(found[1])) != marked:
            raise ProcessLookupError(f"no process is marked {marked!r}")
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(seconds * 1000))
    finally:
        os.close(descriptor)
