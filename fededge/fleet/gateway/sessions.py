"""The clients that are connected to this gateway, and how they are spoken to."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fededge.fleet.gateway.observing import Metrics
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.protocol import Bye
from fededge.protocol.fields import Said

Send = Callable[[Any], Awaitable[None]]
GOING_AWAY, POLICY = 1001, 1008
"""Codes with which a WebSocket ends (RFC 6455, section 7.4.1)."""


class Session:
    """One client's connection.

    Args:
        send: of its WebSocket (ASGI).
        metrics: count what is said.
        most: messages that wait for it.

    Attributes:
        id, tenant, client: empty until it is welcome.
        heard: when it last said something, on the clock of time.monotonic.
        closed: whether nothing more is said.
    """

    __slots__ = ("_metrics", "_most", "_send", "_waiting", "client", "closed", "heard", "id", "tenant")

    def __init__(self, send: Send, metrics: Metrics, most: int) -> None:
        self._send = send
        self._metrics = metrics
        self._most = most
        self._waiting = 0
        self.id = self.tenant = self.client = ""
        self.heard = time.monotonic()
        self.closed = False

    def has_room(self) -> bool:
        """Whether one more message may wait for the client."""
        return not self.closed and self._waiting < self._most

    async def say(self, message: Said) -> None:
        """Send `message`, and wait while the client does not read; nothing once the connection is closed."""
        await self.say_text(message.model_dump_json(exclude_none=True), message.type)  # type: ignore[attr-defined]

    async def say_text(self, text: str, kind: str) -> None:
        """As `say`, with the message's text."""
        if self.closed:
            return
        self._waiting += 1
        try:
            await self._send({"type": "websocket.send", "text": text})
        except OSError:  # the connection is gone
            self.closed = True
        else:
            self._metrics.messages.labels("out", kind).inc()
        finally:
            self._waiting -= 1

    async def end(self, reason: str, code: int, retry_seconds: float = 0.0) -> None:
        """Say goodbye and close the connection; at once where the client does not read."""
        if self.closed:
            return
        if self._waiting == 0:
            await self.say(Bye(reason=reason, retry_seconds=retry_seconds))
        await self.close(code, reason)

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection without a word."""
        if self.closed:
            return
        self.closed = True
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except OSError:
            return  # it is gone already


class Sessions:
    """All sessions of a gateway, by id.

    Attributes:
        beats: conditions by session, of those that were heard of and not yet told to the registry; None: unchanged.
    """

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._open: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.beats: dict[str, dict[str, str] | None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._open.values()))

    def new(self, send: Send) -> Session:
        """A connection whose client is not known yet."""
        return Session(send, self._metrics, self._settings.outgoing)

    def get(self, session: str) -> Session | None:
        """The session of this id, if it is here."""
        return self._open.get(session)

    def add(self, session: Session) -> None:
        """A client is welcome."""
        self._open[session.id] = session
        self._metrics.connections.set(len(self._open))

    def remove(self, session: Session) -> None:
        """A client is gone."""
        self._open.pop(session.id, None)
        self.beats.pop(session.id, None)
        self._metrics.connections.set(len(self._open))

    def beat(self, session: Session, conditions: dict[str, str] | None) -> None:
        """A client was heard of."""
        self.beats[session.id] = conditions if conditions is not None else self.beats.get(session.id)

    def taken_beats(self) -> dict[str, dict[str, str] | None]:
        """What the registry is to be told now."""
        taken, self.beats = self.beats, {}
        return taken

    def deliver(self, session: Session, message: Said) -> bool:
        """Say something without waiting; False where too much waits for this client, or it is gone."""
        if not session.has_room():
            return False
        self.start(session.say(message))
        return True

    def start(self, work: Any) -> None:
        """Let the coroutine `work` run beside what calls this."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def idle(self) -> list[Session]:
        """Sessions that were not heard of for longer than they may be silent."""
        limit = time.monotonic() - self._settings.idle_heartbeats * self._settings.heartbeat_seconds
        return [session for session in self._open.values() if session.heard < limit]
