"""When the gateway has enough to do, and when those who are sent away come back.

Pace steering (Bonawitz et al. 2019, Towards Federated Learning at Scale: System Design, section 2.3): whoever is turned
away is told when to return, at random over a span that grows with their number, so that they come neither at once nor
more often than they are needed.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fededge.fleet.gateway.settings import GatewaySettings

TICK = 0.1
HALF_LIFE_TICKS = 5
SOON = 1.0
"""Seconds after which those come back who were too many at once."""


class Load:
    """How much this gateway has to do.

    Attributes:
        connections: of clients, now.
        welcoming: clients that said hello and wait for their welcome.
        pending: calls that wait for the registry.
        lag: seconds that the event loop was late lately: the largest, halved every half second.
        turned_away: clients lately; halved every heartbeat.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.connections = 0
        self.welcoming = 0
        self.pending = 0
        self.lag = 0.0
        self.turned_away = 0.0

    def full(self) -> str | None:
        """Why no more clients can be taken now, None where they can."""
        if self.connections >= self._settings.connections:
            return f"{self.connections:,} clients are connected"
        return self.crowded()

    def crowded(self) -> str | None:
        """Why nobody should come just now, None where somebody may."""
        if self.welcoming >= self._settings.welcomes:
            return f"{self.welcoming:,} clients wait to be let in"
        return self.behind()

    def behind(self) -> str | None:
        """Why there is more to do than time for it, None where there is not."""
        if self.pending > self._settings.pending:
            return f"{self.pending:,} requests wait for the registry"
        if self.lag > self._settings.lag_seconds:
            return f"the gateway is {self.lag:.1f} seconds behind"
        return None

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """A client is let in while the block lasts."""
        self.welcoming += 1
        try:
            yield
        finally:
            self.welcoming -= 1

    def turn_away(self) -> float:
        """When a client that is turned away now comes back, in seconds: soon, where too many came at once and no more."""
        self.turned_away += 1
        waits = self.connections >= self._settings.connections or self.behind() is not None
        least = self._settings.heartbeat_seconds / 2 if waits else SOON
        return least + self.spread(least * self._settings.connects_per_second + self.turned_away)

    def spread(self, clients: float) -> float:
        """When one of `clients` that are sent off together comes back, in seconds."""
        return random.uniform(0, clients / self._settings.connects_per_second)

    async def watch(self) -> None:
        """Measure the lag, until canceled."""
        forget = 0.5 ** (TICK / self._settings.heartbeat_seconds)
        fade = 0.5 ** (1 / HALF_LIFE_TICKS)
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK)
            self.lag = max(self.lag * fade, time.monotonic() - before - TICK)
            self.turned_away *= forget
