"""A bell: whoever waits for something in this process hears of it at once, and need not look in between."""

import asyncio
from contextlib import suppress

TOGETHER_SECONDS = 0.05
"""For which whoever hears it waits for more of the same."""


class Bell:
    """It is rung by one, and heard by all who wait just then."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Let all who wait go on."""
        self._rung.set()
        self._rung = asyncio.Event()

    async def heard(self, seconds: float) -> None:
        """Return soon after it was rung, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
                await asyncio.sleep(TOGETHER_SECONDS)
