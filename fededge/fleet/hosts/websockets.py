"""Conversations over WebSockets that a platform holds: each event of one is a call of a function, in any process.

What the gateway's own conversation keeps in memory (fededge.fleet.gateway.socket) lies in the registry here, so the
states are the same: PROVING until a hello answers the challenge, once; OPEN; closed.
"""

import asyncio
import base64
import secrets
import time
from typing import Protocol

from fededge.errors import FedEdgeError, GatewayError, ProtocolError
from fededge.fleet.functions import connections, model_update, monitoring
from fededge.fleet.functions.connections import Held
from fededge.fleet.gateway import assignments, dispatch, joining, sweeping
from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.gateway.socket import MOST_REFUSED, REFUSED_SECONDS
from fededge.protocol import Bye, Cancel, Challenge, Heartbeat, Hello, Refused, agreed, from_client
from fededge.protocol.fields import Said


class Platform(Protocol):
    """Holds the connections. Its methods call a network: they are called in threads."""

    def post(self, connection: str, text: str) -> bool:
        """Send a message; False where the connection is gone.

        Raises:
            GatewayError: the platform cannot be reached, or refuses.
        """

    def close(self, connection: str) -> None:
        """Close a connection; one that is gone is as good. Raises as `post`."""


class Conversations:
    """All conversations that a platform holds for one gateway.

    Args:
        service: the gateway, whose settings name it.
        platform: holds the connections.
    """

    def __init__(self, service: Service, platform: Platform) -> None:
        self._service = service
        self._platform = platform
        self._call = service.database.call

    async def opened(self, connection: str) -> None:
        """A client connected: a challenge is made for it."""
        nonce = base64.b64encode(secrets.token_bytes(32)).decode()
        await self._call(connections.opened, connection, self._service.settings.id, nonce, now())

    async def challenge(self, connection: str) -> bool:
        """Say the challenge; False where nothing can be said over the connection, which may be in the making."""
        nonce = await self._call(connections.challenge, connection)
        if nonce is None:
            return True
        return await self._post(
            connection, Challenge(nonce=nonce, gateway=self._service.settings.id, at=now())
        )

    async def closed(self, connection: str) -> None:
        """A connection is gone; of one that was told before, nothing is left to do."""
        held = await self._call(connections.get, connection)
        await self._call(connections.closed, connection)
        if held is not None and held.session is not None:
            await self._call(monitoring.disconnect, held.session, now())

    async def said(self, connection: str, text: str | None) -> None:
        """A client said something; None: bytes, which is no text."""
        held = await self._call(connections.get, connection)
        if held is None:
            await self._close(connection)
            return
        about: str | None = None
        try:
            if text is None:
                raise ProtocolError("send text messages: JSON as UTF-8", "MALFORMED")
            message = from_client(text)
            about = getattr(message, "assignment", None)
            self._service.metrics.messages.labels("in", message.type).inc()
            if isinstance(message, Bye):
                await self._close(connection)
            elif held.session is None:
                await self._welcome(held, message)
            elif isinstance(message, Heartbeat):
                await self._beat(held, held.session, message)
            elif isinstance(message, Hello):
                raise ProtocolError("hello a second time: say it once", "OUT_OF_ORDER")
            else:
                tenant, client = held.tenant or "", held.client or ""
                answer = await assignments.answer(self._service, tenant, client, message)
                await self._say(connection, answer)
        except FedEdgeError as error:
            told = joining.refusal(self._service, error, held.session)
            await self._refuse(held, told.model_copy(update={"assignment": about}))

    async def dispatch(self, seconds: float) -> None:
        """Do for `seconds`, and once at least, what a gateway does by itself: hand out, call back, expire and sweep."""
        until = time.monotonic() + seconds
        while True:
            await self._pass()
            if time.monotonic() + self._service.settings.poll_seconds > until:
                break
            await asyncio.sleep(self._service.settings.poll_seconds)
        await self._call(monitoring.sweep, now())
        await self._call(model_update.set_right, self._service.settings.id, now())
        before = now() - self._service.settings.hello_seconds
        for connection in await self._call(connections.silent, self._service.settings.id, before):
            told = Refused(reason="TIMEOUT", message="say hello within the time")
            await self._say(connection, told)
            await self._close(connection)
        await sweeping.sweep_objects(self._service)
        await sweeping.sweep_blobs(self._service)
        await sweeping.sweep_rounds(self._service)
        await sweeping.sweep_tokens(self._service)

    async def _pass(self) -> None:
        service = self._service
        settings = service.settings
        await self._call(monitoring.lease, settings.id, service.url, settings.lease_seconds, now())
        await self._call(model_update.expire, now())
        polled = await self._call(dispatch.poll, service.objects, settings.id, now())
        for session in polled.ended:
            await self._tell(session, Bye(reason="ENDED"))
            connection = await self._call(connections.of_session, session)
            if connection is not None:
                await self._close(connection)
            await self._call(monitoring.disconnect, session, now())
        for session, assignment in polled.cancels:
            await self._tell(session, Cancel(assignment=assignment))
        for session, message in polled.due:
            await self._tell(session, message)

    async def _welcome(self, held: Held, hello: Said) -> None:
        """Take in who proves to be an enrolled client; the challenge is good for one try."""
        if not isinstance(hello, Hello):
            raise ProtocolError("a message before hello: say hello first", "OUT_OF_ORDER")
        nonce = await self._call(connections.answered, held.id)
        if nonce is None:
            raise ProtocolError("the challenge was answered before: connect again", "OUT_OF_ORDER")
        agreed(hello.oldest, hello.newest)
        heartbeat = self._service.settings.heartbeat_seconds
        connected = await joining.joined(
            self._service, hello, base64.b64decode(nonce), held.gateway, heartbeat
        )
        await self._call(connections.welcomed, held.id, connected.session, hello.tenant, hello.client)
        log.info("session", session=connected.session, client=hello.client, tenant=hello.tenant)
        for told in joining.welcome(hello, connected, heartbeat):
            await self._say(held.id, told)

    async def _beat(self, held: Held, session: str, message: Heartbeat) -> None:
        if await self._call(monitoring.beat, {session: message.conditions}, now()):
            await self._say(held.id, Bye(reason="ENDED"))
            await self._close(held.id)
        else:
            await self._say(held.id, Heartbeat())

    async def _refuse(self, held: Held, told: Refused) -> None:
        """Say no. Before the welcome that is the end; after it, so is once too often."""
        self._service.metrics.refused.labels(told.reason).inc()
        await self._say(held.id, told)
        count = await self._call(connections.refused, held.id, REFUSED_SECONDS, now())
        if held.session is None or count >= MOST_REFUSED:
            await self._close(held.id)

    async def _tell(self, session: str, message: Said) -> None:
        """Say something to the client of a session; what cannot be delivered is due again, and keeps nobody waiting."""
        connection = await self._call(connections.of_session, session)
        try:
            if connection is not None:
                await self._say(connection, message)
                return
            log.info("not delivered", session=session)
        except GatewayError as error:
            log.error("not delivered", session=session, problem=str(error))

    async def _say(self, connection: str, message: Said) -> None:
        if not await self._post(connection, message):
            await self.closed(connection)

    async def _post(self, connection: str, message: Said) -> bool:
        text = message.model_dump_json(exclude_none=True)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._service.files, self._platform.post, connection, text)

    async def _close(self, connection: str) -> None:
        """Close a connection, and let the registry know."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._service.files, self._platform.close, connection)
        await self.closed(connection)
