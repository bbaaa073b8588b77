"""The conversation with one client over its WebSocket, as a state machine.

    PROVING  the gateway sent a challenge; within a time, one hello answers it
    OPEN     the proof was right, and the registry has the session: both may speak
    CLOSED   whoever closed it, the registry hears of the end

Before it, in the handshake, who comes from another site's page, too often or beyond all bounds is turned away by HTTP.
A message that is unknown, malformed, out of order or too frequent is refused by reason and counted, and goes no further.
"""

import asyncio
import base64
import secrets
import time
from enum import Enum

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fededge.errors import FedEdgeError, GatewayError, ProtocolError, RegistryError, shown
from fededge.fleet.functions import monitoring
from fededge.fleet.gateway import assignments, joining, problems
from fededge.fleet.gateway.limits import address_of
from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.gateway.sessions import GOING_AWAY, POLICY
from fededge.protocol import (
    SUBPROTOCOL,
    Bye,
    Challenge,
    ClientMessage,
    Heartbeat,
    Hello,
    Refused,
    agreed,
    from_client,
)

MOST_REFUSED, REFUSED_SECONDS = 10, 60.0
"""Messages of a connection that are refused within a time before it is closed."""
SPARE = 100
"""Clients beyond the bound that are still told so by a message."""
CODES = {1002: "MALFORMED", 1007: "MALFORMED", 1009: "TOO_LARGE"}
"""Why the WebSocket's own layer ended a connection (RFC 6455, section 7.4.1)."""
HEARTBEAT = Heartbeat().model_dump_json(exclude_none=True)


class Connect:
    """The endpoint of WebSockets.

    Args:
        service: the gateway.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a connection, or turn it away (ASGI)."""
        service = self._service
        turned_away = _turned_away(service, scope)
        await receive()  # that it connects
        if turned_away is not None:
            await turned_away(scope, receive, send)
            return
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        await Conversation(service, receive, send).run()


def _turned_away(service: Service, scope: Scope) -> Response | None:
    """Why a handshake is refused; None where it is not."""
    headers = Headers(scope=scope)
    settings = service.settings
    if (origin := headers.get("origin")) is not None and origin.rstrip("/") != service.url:
        mistake = GatewayError(
            f"a page of {shown(origin)} may not connect: only {service.url} may", "ORIGIN", 403
        )
    elif SUBPROTOCOL not in scope["subprotocols"]:
        mistake = GatewayError(f"ask for the WebSocket's subprotocol {SUBPROTOCOL}", "SUBPROTOCOL", 400)
    elif wait := service.connects.take(address_of(scope["client"]), time.monotonic()):
        return problems.busy(service, "TOO_FREQUENT", "connect less often", 429, wait)
    elif len(service.sessions) >= settings.connections + SPARE or service.load.crowded():
        retry = service.load.turn_away()
        return problems.busy(
            service, "OVERLOADED", "too many clients come at once: come back later", 503, retry
        )
    else:
        return None
    return problems.refused(service, mistake)


class State(Enum):
    """Of a conversation."""

    PROVING = "proving"
    OPEN = "open"
    CLOSED = "closed"


class Conversation:
    """What is said over one WebSocket.

    Args:
        service: the gateway.
        receive, send: of the WebSocket (ASGI).
    """

    __slots__ = ("_nonce", "_receive", "_refused", "_refused_since", "_service", "_session", "_state")

    def __init__(self, service: Service, receive: Receive, send: Send) -> None:
        self._service = service
        self._receive = receive
        self._session = service.sessions.new(send)
        self._nonce = secrets.token_bytes(32)
        self._state = State.PROVING
        self._refused = 0
        self._refused_since = 0.0

    async def run(self) -> None:
        """From the challenge to the end."""
        nonce = base64.b64encode(self._nonce).decode()
        await self._session.say(Challenge(nonce=nonce, gateway=self._service.settings.id, at=now()))
        try:
            async with asyncio.timeout(self._service.settings.hello_seconds):
                text = await self._next()
        except TimeoutError:
            await self._refuse("TIMEOUT", "say hello within the time", None)
            return
        try:
            if text is not None:
                await self._take(text)
            while self._state is State.OPEN and (text := await self._next()) is not None:
                await self._take(text)
        finally:
            await self._leave()

    async def _next(self) -> str | None:
        """The next text message; None once the connection is closed."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._session.closed = True
                if reason := CODES.get(event.get("code", 0)):
                    self._service.metrics.refused.labels(reason).inc()
                return None
            if (text := event.get("text")) is not None:
                return str(text)
            await self._refuse("MALFORMED", "send text messages: JSON as UTF-8", None)
            if self._state is State.CLOSED:
                return None

    async def _take(self, text: str) -> None:
        """Read a message and act on it, or refuse it."""
        begun = time.perf_counter()
        service, session = self._service, self._session
        session.heard = time.monotonic()
        who = f"{session.tenant} {session.client}"  # not the session: a new one begins with no new allowance
        if session.id and (wait := service.messages.take(who, session.heard)):
            await self._refuse("TOO_FREQUENT", "send fewer messages", max(wait, 1.0))
            return
        about: str | None = None
        try:
            message = from_client(text)
            about = getattr(message, "assignment", None)
            service.metrics.messages.labels("in", message.type).inc()
            if self._state is State.PROVING:
                await self._welcome(message)
            else:
                await self._act(message)
            service.metrics.answer_seconds.labels(message.type).observe(time.perf_counter() - begun)
        except FedEdgeError as error:
            told = joining.refusal(service, error, session.id)
            await self._refuse(told.reason, told.message, told.retry_seconds, about)

    async def _welcome(self, hello: ClientMessage) -> None:
        """Take in who proves to be an enrolled client."""
        service, session = self._service, self._session
        if isinstance(hello, Bye):
            self._state = State.CLOSED
            return
        if not isinstance(hello, Hello):
            raise ProtocolError(f"{hello.type} before hello: say hello first", "OUT_OF_ORDER")
        agreed(hello.oldest, hello.newest)
        if why := service.full():
            reason = "DRAINING" if service.draining else "OVERLOADED"
            await self._refuse(reason, f"{why}: come back later", service.load.turn_away())
            return
        heartbeat = service.settings.heartbeat_seconds
        with service.load.one_more():
            connected = await joining.joined(service, hello, self._nonce, service.settings.id, heartbeat)
        session.id, session.tenant, session.client = connected.session, hello.tenant, hello.client
        self._state = State.OPEN
        service.sessions.add(session)
        service.metrics.sessions.labels(str(connected.resumed).lower()).inc()
        log.info("session", session=session.id, client=session.client, tenant=session.tenant)
        for told in joining.welcome(hello, connected, heartbeat):
            await session.say(told)

    async def _act(self, message: ClientMessage) -> None:
        """Act on a message of a client that is in."""
        if isinstance(message, Heartbeat):
            self._service.sessions.beat(self._session, message.conditions)
            await self._session.say_text(HEARTBEAT, "heartbeat")
        elif isinstance(message, Bye):
            self._state = State.CLOSED
        elif isinstance(message, Hello):
            raise ProtocolError("hello a second time: say it once", "OUT_OF_ORDER")
        else:
            session = self._session
            await session.say(
                await assignments.answer(self._service, session.tenant, session.client, message)
            )

    async def _refuse(
        self, reason: str, message: str, retry_seconds: float | None, assignment: str | None = None
    ) -> None:
        """Say no. Before the welcome that is the end; after it, so is once too often."""
        self._service.metrics.refused.labels(reason).inc()
        await self._session.say(
            Refused(
                reason=reason,
                message=message[: joining.TEXT],
                retry_seconds=retry_seconds,
                assignment=assignment,
            )
        )
        at = time.monotonic()
        if at - self._refused_since > REFUSED_SECONDS:
            self._refused, self._refused_since = 0, at
        self._refused += 1
        if self._state is State.PROVING or self._refused >= MOST_REFUSED:
            self._state = State.CLOSED
            await self._session.close(POLICY, reason)

    async def _leave(self) -> None:
        """Close the connection, and let the registry know."""
        session, service = self._session, self._service
        self._state = State.CLOSED
        if not session.id:
            return
        service.sessions.remove(session)
        await session.close(GOING_AWAY)
        log.info("session over", session=session.id, client=session.client, tenant=session.tenant)
        try:
            await service.database.together(monitoring.disconnect, session.id, now())
        except RegistryError as error:  # it is swept once it was not heard of for long
            log.error("registry", problem=str(error), session=session.id)
