"""Where a client connects to: its gateway, and hosts of stores that its owner names; never a redirect's word."""

import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from fededge.errors import SiteError, shown

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """A gateway's.

    Attributes:
        url: without a slash at its end.
        plain: whether plain HTTP to another machine is allowed.
    """

    url: str
    plain: bool = False

    @classmethod
    def of(cls, url: str, plain: bool = False) -> "Address":
        """The address `url`.

        Raises:
            SiteError: it is no http(s) URL, or would carry secrets in the open.
        """
        parts = _split(url)
        if parts is None or parts.query or parts.fragment:
            raise SiteError(f"{shown(url, 200)} is no address of a gateway: give https://HOST")
        if parts.scheme == "http" and not (plain or _is_loopback(parts.hostname or "")):
            raise SiteError(
                f"{shown(url, 200)} is plain HTTP to another machine, which anybody on the way can read and change: give "
                "https://HOST (or --plain-http, for a trial)"
            )
        return cls(url.rstrip("/"), plain)

    @property
    def socket(self) -> str:
        """URL of the WebSocket."""
        return f"ws{self.url.removeprefix('http')}/v1/connect"

    def object(self, url: str, hosts: Iterable[str] = ()) -> str:
        """The whole URL of something that the gateway sends a client to.

        Args:
            url: as the gateway said it; relative to the gateway's own, or absolute.
            hosts: beside the gateway's that the client's owner allows, each as HOST or HOST:PORT.

        Raises:
            SiteError: it leads elsewhere.
        """
        own = urlsplit(self.url)
        try:
            whole = urljoin(f"{self.url}/", url)
            parts = _split(whole)
        except ValueError:
            parts = None
        if parts is None:
            raise SiteError(f"the gateway names {shown(url, 200)}, which is no web address")
        if own.scheme == "https" and parts.scheme != "https":
            raise SiteError(f"the gateway names {shown(url, 200)}, which is plain HTTP: refused")
        if _place(parts) not in {
            _place(own),
            *(_place(urlsplit(f"{parts.scheme}://{host}")) for host in hosts),
        }:
            raise SiteError(
                f"the gateway sends to {shown(parts.netloc, 200)}, which is neither the gateway nor among the policy's "
                "hosts: refused"
            )
        return whole

    def tls(self, authorities: Path | None) -> ssl.SSLContext:
        """How to prove the gateway's certificate: by the CAs in the PEM file `authorities`, or the system's.

        Raises:
            SiteError: the file cannot be read, or holds no certificate.
        """
        try:
            return ssl.create_default_context(cafile=authorities)
        except OSError as error:  # ssl.SSLError is one
            raise SiteError(
                f"cannot use the CA file {authorities}: {error.strerror or 'it holds no certificate'}. Give a PEM file"
            ) from error


def _split(url: str) -> SplitResult | None:
    """The parts of a whole http(s) URL without a user's name; None for anything else."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in PORTS and parts.hostname and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return None
    return parts if sound and url.isprintable() and " " not in url else None


def _place(parts: SplitResult) -> tuple[str, int]:
    return (parts.hostname or "").lower(), parts.port or PORTS[parts.scheme]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
