"""The processes of one server end together: when asked to, and when one of them dies.

Seldon starts processes for gRPC and metrics, and one that keeps the metrics, beside gunicorn's for REST. Its
main process waits at exit for the one for gRPC, which nobody told to end; so SIGTERM hangs. A main process that
is killed leaves the others behind. And where one of the others dies the rest goes on without it: gRPC is
gone, or every answer fails, while the pod is said to be ready. Only gunicorn replaces its own workers.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from types import FrameType

from fededge.delivery.endpoints.pod import FINISH_SECONDS
from fededge.processes import signal_at_parents_end

_ending = threading.Event()
_died = threading.Event()


def end_together() -> None:
    """From now on, children of this process end with it (Linux), and it with them.

    To be called in the main process before it starts any other.
    """
    os.register_at_fork(after_in_child=_begin)
    atexit.register(_end_main, os.getpid())  # runs before multiprocessing's own, which waits


def finish_first(finish: Callable[[], object]) -> None:
    """Let SIGTERM end this process, which has no children, when `finish` is done; main thread only."""

    def end(number: int, frame: FrameType | None) -> None:
        finish()
        sys.exit(0)

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, end)


def watch_children(_: object = None) -> None:
    """End this process, with all that is under way done first, as soon as one that it started dies."""
    children = multiprocessing.active_children()
    if children:
        threading.Thread(target=_end_with_first, args=(children,), daemon=True).start()


def _begin() -> None:
    """In a new process; gunicorn's, and that for gRPC, set their own signals afterwards."""
    signal_at_parents_end(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGCHLD, lambda *_: os._exit(1))


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _end_children(FINISH_SECONDS + 2)
    sys.exit(0)


def _end_main(owner: int) -> None:
    if os.getpid() == owner:
        _ending.set()
        _end_children(FINISH_SECONDS + 4)
        if _died.is_set():
            os._exit(1)


def _end_children(seconds: float) -> None:
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(seconds)
        child.kill()


def _end_with_first(children: list[BaseProcess]) -> None:
    ended = connection.wait([child.sentinel for child in children])
    if not _ending.is_set():
        _died.set()
        names = ", ".join(child.name for child in children if child.sentinel in ended)
        print(f"fededge: {names} of the model server died, and it ends with it", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
