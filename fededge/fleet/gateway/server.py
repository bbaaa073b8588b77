"""Serving a gateway: from its address to its last answer."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from fededge.errors import StorageError
from fededge.fleet.gateway import drain, observing
from fededge.fleet.gateway.app import create_app
from fededge.fleet.gateway.listening import BACKLOG, Certificates, check, listening, tls, url_of
from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.protocols import bounded
from fededge.fleet.gateway.service import Service
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.protocol import LARGEST_MESSAGE

KEEP_ALIVE_SECONDS = 30
NEW_OBJECTS = 10_000
"""From one collection of garbage to the next."""
SWITCH_SECONDS = 0.0005
"""For which a thread that calls the registry may let the event loop wait."""


class Server(uvicorn.Server):
    """uvicorn, which begins and ends a gateway in order.

    Args:
        config: of uvicorn.
        service: the gateway.
        ready: called once it answers.
    """

    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._ready = ready
        self._renewing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin. uvicorn's own would wait a minute for who begins TLS and says no more."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(1)
        loop = asyncio.get_running_loop()
        seconds = self._service.settings.head_seconds if self.config.ssl else None
        self.servers = [
            await loop.create_server(
                self._connection,
                sock=listener,
                ssl=self.config.ssl,
                ssl_handshake_timeout=seconds,
                backlog=BACKLOG,
            )
            for listener in sockets or ()
        ]
        if self.config.ssl:
            self._renewing = asyncio.create_task(
                self._renew(Certificates(self._service.settings, self.config.ssl))
            )
        self.started = True
        # What is there now stays: the collector need not look at it again, nor at every message.
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS)
        self._ready()

    async def _renew(self, certificates: Certificates) -> None:
        """Take up a new certificate."""
        while True:
            await asyncio.sleep(self._service.settings.certificate_seconds)
            try:
                if certificates.renew():
                    log.info("certificate", state="renewed")
            except StorageError as error:
                log.error("certificate", problem=str(error))

    def _connection(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        connection: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return connection

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nobody any more, send clients off, let requests finish, and end."""
        if self._renewing is not None:
            self._renewing.cancel()
        for server in self.servers:
            server.close()
        await drain.send_off(self._service)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGTERM or SIGINT with status 0: what it was told to do is done."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread hears signals
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


Application = Callable[[GatewaySettings, str], Starlette]
"""Settings, and the URL where it listens, to an application whose `state.service` is its Service."""


def serve(
    settings: GatewaySettings,
    ready: Callable[[str], None] | None = None,
    application: Application = create_app,
) -> None:
    """Serve until SIGTERM or SIGINT. It logs JSON lines to standard error, the one with `event` "ready" once it answers.

    Args:
        settings: of the gateway.
        ready: called with the URL where it listens, once it answers.
        application: what is served; by default the gateway.

    Raises:
        GatewayError: the address is taken or not this machine's, or TLS is missing.
        FedEdgeError: its registry, store, keys or certificate cannot be used.
    """
    check(settings)
    observing.configure_log(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is an open file
    if settings.trace_endpoint:
        observing.configure_traces(settings.trace_endpoint, settings.id)
    with listening(settings) as listener:
        url = url_of(settings, listener)
        app = application(settings, url)

        def tell() -> None:
            log.info("ready", url=url, gateway=settings.id, public=settings.url)
            if ready is not None:
                ready(url)

        server = Server(_config(settings, app), app.state.service, tell)
        server.run([listener])
    log.info("ended", gateway=settings.id)


def _config(settings: GatewaySettings, app: Starlette) -> uvicorn.Config:
    http, websocket = bounded(settings)
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=http,
        ws=websocket,
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=None,  # heartbeats do that
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ssl_context_factory=(lambda *_: tls(settings)) if settings.certificate_file else None,
    )
