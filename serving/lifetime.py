"""The processes of one server end together, and at once when asked to.

Seldon's main process waits at exit for its gRPC process, which nobody told to end; so SIGTERM
hangs. And a main process that is killed leaves the others behind.
"""

import atexit
import multiprocessing
import os
import signal

from fededge.processes import signal_at_parents_end


def end_together() -> None:
    """From now on, children of this process end with it (Linux), and it does not wait for them.

    To be called in the main process before it starts any other.
    """
    os.register_at_fork(after_in_child=lambda: signal_at_parents_end(signal.SIGTERM))
    atexit.register(_end_children, os.getpid())  # runs before multiprocessing's own, which waits


def _end_children(owner: int) -> None:
    if os.getpid() == owner:
        for child in multiprocessing.active_children():
            child.terminate()
