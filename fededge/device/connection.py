"""One connection of a client to its gateway: typed messages out, each in the journal first, and typed messages in."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from fededge import __version__
from fededge.device.journal import Journal
from fededge.errors import GatewayError, shown
from fededge.protocol import (
    LARGEST_MESSAGE,
    SUBPROTOCOL,
    ClientMessage,
    GatewayMessage,
    Heartbeat,
    from_gateway,
)

OPEN_SECONDS = 30
CLOSE_SECONDS = 2
QUEUED = 16
"""Most messages that wait to be read: beyond it the gateway has to wait."""


class TurnedAway(GatewayError):
    """The gateway takes no connection now; `retry_seconds`: when to come back."""

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message, "BUSY", 503)
        self.retry_seconds = retry_seconds


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """Follow none: a client speaks to the gateway that its owner named."""
        return exc


class Connection:
    """An open connection; made by `connected`."""

    def __init__(self, socket: ClientConnection, journal: Journal) -> None:
        self._socket, self._journal = socket, journal

    async def send(self, message: ClientMessage, round: str | None = None) -> None:
        """Send `message`, which belongs to `round`.

        Raises:
            StorageError: the journal cannot be written: nothing was sent.
            GatewayError: the connection is lost.
        """
        text = message.model_dump_json(exclude_none=True)
        if message != Heartbeat():  # which says nothing
            self._journal.write(message.type, text.encode(), round=round)
        try:
            await self._socket.send(text)
        except WebSocketException as error:
            raise _lost(error) from error

    async def receive(self) -> GatewayMessage:
        """The next message.

        Raises:
            ProtocolError: it is none of the protocol.
            GatewayError: the connection is lost, or was closed here for a message that is too large.
        """
        try:
            text = await self._socket.recv()
        except WebSocketException as error:
            raise _lost(error) from error
        return from_gateway(text)


@asynccontextmanager
async def connected(url: str, tls: ssl.SSLContext, journal: Journal) -> AsyncIterator[Connection]:
    """A connection to the gateway at the WebSocket URL `url`, closed at the end of the block.

    Raises:
        TurnedAway: not before some time.
        GatewayError: there is none to be had.
    """
    try:
        socket = await _Connect(
            url,
            ssl=tls if url.startswith("wss:") else None,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=LARGEST_MESSAGE,
            max_queue=QUEUED,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,  # heartbeats tell whether the other side is there
            user_agent_header=f"fededge/{__version__}",
        )
    except InvalidStatus as error:
        retry = error.response.headers.get("Retry-After", "")
        if retry.isdecimal() and len(retry) < 10:
            raise TurnedAway(f"the gateway turns this client away: {error}", float(retry)) from error
        raise _lost(error) from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise _lost(error) from error
    try:
        if socket.subprotocol != SUBPROTOCOL:
            raise GatewayError(f"{url} is no gateway: it does not speak the protocol {SUBPROTOCOL}")
        yield Connection(socket, journal)
    finally:
        await socket.close()


def _lost(error: Exception) -> GatewayError:
    return GatewayError(f"no connection to the gateway: {shown(str(error) or type(error).__name__, 200)}")
