"""Wake-ups: a gateway that made work lets all others look for it at once, by way of Redis.

Nothing depends on them. A message holds nothing and may be lost: each gateway asks the registry four times a second
anyway, and where there is no Redis, or it is away, work waits for that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from redis import asyncio as redis
from redis.exceptions import RedisError

from fededge.errors import GatewayError
from fededge.fleet.gateway.bell import heard
from fededge.fleet.gateway.observing import log

CHANNEL = "fededge.work"
ANSWER_SECONDS = 5.0
"""For Redis to answer."""
SILENT_SECONDS = 15.0
"""After which a connection without a word is tried: it may lead nowhere any more."""
RETRY_SECONDS = 2.0
APART_SECONDS = 0.02
"""Between two looks because of wake-ups, at least: what comes meanwhile is looked for together."""


class WakeUps:
    """Those of one gateway.

    Args:
        url: of Redis, such as rediss://:PASSWORD@HOST:6379/0; None: this gateway wakes itself alone.

    Raises:
        GatewayError: the URL cannot be read.
    """

    def __init__(self, url: str | None) -> None:
        self._woken, self._to_tell = asyncio.Event(), asyncio.Event()
        self._last = 0.0
        self._redis: redis.Redis | None = None
        if url is not None:
            try:
                self._redis = redis.from_url(
                    url,
                    socket_connect_timeout=ANSWER_SECONDS,
                    socket_timeout=ANSWER_SECONDS,
                    health_check_interval=SILENT_SECONDS,
                )
            except ValueError as error:
                raise GatewayError(
                    "FEDEDGE_GATEWAY_REDIS is no URL of Redis: write redis://HOST:6379/0", "REDIS"
                ) from error

    def wake(self) -> None:
        """Let this gateway look at once, and, soon, all others."""
        self._woken.set()
        self._to_tell.set()

    async def wait(self, seconds: float) -> None:
        """Return once somebody woke this gateway, or after so many seconds."""
        await heard(self._woken, seconds)
        if self._woken.is_set():
            await asyncio.sleep(self._last + APART_SECONDS - time.monotonic())
            self._last = time.monotonic()
            self._woken.clear()

    async def serve(self) -> None:
        """Wake the others, and be woken by them, until canceled."""
        if self._redis is not None:
            await asyncio.gather(_again(self._tell), _again(self._listen))

    async def close(self) -> None:
        """Give up the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _tell(self) -> None:
        assert self._redis is not None
        await self._to_tell.wait()
        self._to_tell.clear()
        await self._redis.publish(CHANNEL, b"")

    async def _listen(self) -> None:
        assert self._redis is not None
        async with self._redis.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            while True:
                if await channel.get_message(timeout=SILENT_SECONDS) is not None:
                    self._woken.set()


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` for ever; while Redis is away, every few seconds."""
    while True:
        try:
            await work()
        except (RedisError, OSError) as error:
            log.warning("redis", problem=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
