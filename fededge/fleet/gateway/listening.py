"""Where a gateway listens, and the TLS that it does there."""

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.errors import GatewayError, StorageError
from fededge.fleet.gateway.settings import GatewaySettings

BACKLOG = 4096
"""Connections that wait to be taken."""


def check(settings: GatewaySettings) -> None:
    """That a gateway may be served like this.

    Raises:
        GatewayError: it would show tokens in the open, or lacks a part of TLS.
        StorageError: a file of TLS cannot be used.
    """
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
        tls(settings)


def tls(settings: GatewaySettings) -> ssl.SSLContext:
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
        context.options |= ssl.OP_NO_TICKET  # each handshake proves the certificate anew
        context.num_tickets = 0
    return context


class Certificates:
    """The files of TLS, which may be replaced while a gateway runs.

    Args:
        settings: that name them.
        context: by which connections begin; each goes on with what was read last.
    """

    def __init__(self, settings: GatewaySettings, context: ssl.SSLContext) -> None:
        self._settings, self._current = settings, context
        self._seen = self._state()
        context.sni_callback = self._serve

    def renew(self) -> bool:
        """Read them again where they changed; whether they did.

        Raises:
            StorageError: they do not fit, as in the middle of a change: those that were read before stay in use.
        """
        now = self._state()
        if now == self._seen:
            return False
        self._current = tls(self._settings)
        self._seen = now
        return True

    def _serve(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        """Called as each handshake begins, whether or not the client names a server."""
        connection.context = self._current

    def _state(self) -> list[tuple[int, int, int] | None]:
        settings = self._settings
        files = (settings.certificate_file, settings.private_key_file, settings.client_ca_file)
        return [storage.state_of(file) for file in files if file is not None]


@contextlib.contextmanager
def _named(file: Path | None, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as error:
        raise StorageError(f"cannot use the {what} in {file}: {error}. Name PEM files that fit") from error


@contextlib.contextmanager
def listening(settings: GatewaySettings) -> Iterator[socket.socket]:
    """A socket that listens, while the block lasts.

    Raises:
        GatewayError: the address is taken or not this machine's.
    """
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


def url_of(settings: GatewaySettings, listener: socket.socket) -> str:
    """The URL of a socket that listens."""
    name: Any = listener.getsockname()
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if settings.certificate_file else 'http'}://{host}:{name[1]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
