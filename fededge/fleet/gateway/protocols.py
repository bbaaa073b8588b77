"""Connections that are slow or silent: what uvicorn's protocols leave unbounded, and what they keep for long.

Slow senders of a request's head (slow loris), heads without end, and receivers that do not read end after a time; a
WebSocket that is open needs nothing of its handshake any more.
"""

from asyncio import TimerHandle, Transport
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.settings import GatewaySettings

LARGEST_HEAD = 1 << 15
HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)
FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def bounded(settings: GatewaySettings) -> tuple[type[HttpToolsProtocol], type[WebSocketsSansIOProtocol]]:
    """uvicorn's protocols of HTTP and WebSocket, with the limits of `settings`."""

    class Http(HttpToolsProtocol):
        """HTTP whose heads arrive in time."""

        _deadline: TimerHandle | None = None
        _stalled: TimerHandle | None = None
        _head = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.connections + settings.requests:
                transport.write(FULL)
                transport.close()
            else:
                self._begin_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_head()
            self._stalled = _canceled(self._stalled)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._deadline is not None:
                self._head += len(data)
            super().data_received(data)
            if self._deadline is not None and self._head > LARGEST_HEAD and not self.transport.is_closing():
                self.transport.write(HEAD_TOO_LARGE)
                self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._deadline is None:
                self._begin_head()

        def on_headers_complete(self) -> None:
            self._end_head()
            super().on_headers_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(settings.stall_seconds, _abort, self.transport)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stalled = _canceled(self._stalled)

        def _begin_head(self) -> None:
            self._head = 0
            self._deadline = self.loop.call_later(settings.head_seconds, self.transport.close)

        def _end_head(self) -> None:
            self._deadline = _canceled(self._deadline)

    class WebSocket(WebSocketsSansIOProtocol):
        """A WebSocket whose other side reads, and which forgets its handshake."""

        _stalled: TimerHandle | None = None

        def connection_lost(self, exc: Exception | None) -> None:
            self._stalled = _canceled(self._stalled)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.pause_reading()  # or pings would be answered without end
            self._stalled = self.loop.call_later(settings.stall_seconds, _abort, self.transport)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stalled = _canceled(self._stalled)
            if not self.read_paused and not self.transport.is_closing():
                self.transport.resume_reading()

        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.accept":
                self.request = self.response = cast(Any, None)
                self.scope["headers"] = []
            elif message["type"] == "websocket.http.response.body":
                self.handshake_complete = True  # or uvicorn would log each that is turned away as a mistake

    return Http, WebSocket


def _abort(transport: Transport) -> None:
    """End a connection whose other side does not read."""
    log.warning("stalled", bytes=transport.get_write_buffer_size())
    transport.abort()


def _canceled(timer: TimerHandle | None) -> TimerHandle | None:
    """None, in place of a timer that is canceled."""
    if timer is not None:
        timer.cancel()
    return None
