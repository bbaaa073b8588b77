"""Waiting in tests for what another process or thread brings about."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; a failure after 20 s."""
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")
