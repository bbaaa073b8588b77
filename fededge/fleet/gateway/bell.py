"""A bell: whoever waits for something in this process hears of it at once, and need not look in between."""

import asyncio
from contextlib import suppress

APART_SECONDS = 0.05
"""Between two rings, at least: what comes meanwhile is heard of together."""


class Bell:
    """It is rung by one, and heard by all who listen just then."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._last = float("-inf")
        self._later: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Let all who listen go on: at once, or APART_SECONDS after the last time."""
        if self._later is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._last + APART_SECONDS - loop.time()
        if wait > 0:
            self._later = loop.call_later(wait, self._ring)
        else:
            self._ring()

    def listen(self) -> asyncio.Event:
        """What the next ring sets. Whoever listens before it looks misses nothing."""
        return self._next

    def _ring(self) -> None:
        self._later = None
        self._last = asyncio.get_running_loop().time()
        self._next.set()
        self._next = asyncio.Event()


async def heard(event: asyncio.Event, seconds: float) -> None:
    """Return once `event` is set, or after so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
