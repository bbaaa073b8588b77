"""Bells: whoever waits for something in this process hears of it at once, and need not look in between."""

import asyncio
from collections.abc import Hashable
from contextlib import suppress
from weakref import WeakValueDictionary


class Bells:
    """One for each thing that somebody listens for."""

    def __init__(self) -> None:
        self._next: WeakValueDictionary[Hashable, asyncio.Event] = WeakValueDictionary()

    def ring(self, what: Hashable) -> None:
        """Let all who listen for it go on."""
        if (event := self._next.pop(what, None)) is not None:
            event.set()

    def listen(self, what: Hashable) -> asyncio.Event:
        """What the next ring for it sets. Whoever listens before it looks misses nothing."""
        return self._next.setdefault(what, asyncio.Event())


async def heard(event: asyncio.Event, seconds: float) -> None:
    """Return once `event` is set, or after so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
