"""Serving a gateway: from its address to its last answer."""

import contextlib
import gc
import ipaddress
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from fededge.errors import GatewayError, StorageError
from fededge.fleet.gateway import drain, observing
from fededge.fleet.gateway.app import create_app
from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.protocols import bounded
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.protocol import LARGEST_MESSAGE

BACKLOG = 4096
KEEP_ALIVE_SECONDS = 30
NEW_OBJECTS = 10_000
"""From one collection of garbage to the next."""
SWITCH_SECONDS = 0.0005
"""For which a thread that calls the registry may let the event loop wait."""


class Server(uvicorn.Server):
    """uvicorn, which ends a gateway in order.

    Args:
        config: of uvicorn.
        app: the gateway's.
        ready: called with nothing once it answers.
    """

    def __init__(self, config: uvicorn.Config, app: Starlette, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        # What is there now stays: the collector need not look at it again, nor at every message.
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nobody any more, send clients off, let requests finish, and end."""
        for server in self.servers:
            server.close()
        await drain.send_off(self._gateway.state.service)
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


def serve(settings: GatewaySettings, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. It logs JSON lines to standard error, the one with `event` "ready" once it answers.

    Args:
        settings: of the gateway.
        ready: called with the URL where it listens, once it answers.

    Raises:
        GatewayError: the address is taken or not this machine's, or TLS is missing.
        FedEdgeError: its registry, store, keys or certificate cannot be used.
    """
    _check(settings)
    observing.configure_log(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    if settings.trace_endpoint:
        observing.configure_traces(settings.trace_endpoint, settings.id)
    with _listening(settings) as listener:
        url = _url(settings, listener)
        app = create_app(settings, url)

        def tell() -> None:
            log.info("ready", url=url, gateway=settings.id, public=settings.url)
            if ready is not None:
                ready(url)

        server = Server(_config(settings, app), app, tell)
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
        ssl_context_factory=(lambda *_: _tls(settings)) if settings.certificate_file else None,
    )


def _check(settings: GatewaySettings) -> None:
    if (settings.certificate_file is None) != (settings.private_key_file is None):
        raise GatewayError("TLS needs a certificate and its private key: name both files", "TLS")
    if settings.certificate_file is None and settings.client_ca_file is not None:
        raise GatewayError(
            "certificates of clients need TLS: name the gateway's certificate and key too", "TLS"
        )
    if settings.certificate_file is None and not settings.insecure and not _is_loopback(settings.host):
        raise GatewayError(
            f"plain HTTP on {settings.host} would show tokens to everybody on the way: name a certificate and its key, "
            "or say --insecure where a proxy does TLS",
            "TLS",
        )
    if settings.certificate_file is not None:
        _tls(settings)


def _tls(settings: GatewaySettings) -> ssl.SSLContext:
    """TLS 1.2 or later, and with a CA of clients' certificates no connection without one of these.

    Raises:
        StorageError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    with _named(settings.certificate_file, "certificate and its key"):
        context.load_cert_chain(str(settings.certificate_file), str(settings.private_key_file))
    if settings.client_ca_file is not None:
        with _named(settings.client_ca_file, "CA of clients"):
            context.load_verify_locations(str(settings.client_ca_file))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def _named(file: Path | None, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        raise StorageError(f"cannot use the {what} in {file}: {error}. Name PEM files that fit") from error


@contextlib.contextmanager
def _listening(settings: GatewaySettings) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _no_address(settings, error) from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            raise _no_address(settings, error) from error
        yield listener


def _no_address(settings: GatewaySettings, error: OSError) -> GatewayError:
    return GatewayError(
        f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. Choose another address or port",
        "ADDRESS",
    )


def _url(settings: GatewaySettings, listener: socket.socket) -> str:
    name: Any = listener.getsockname()
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if settings.certificate_file else 'http'}://{host}:{name[1]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
