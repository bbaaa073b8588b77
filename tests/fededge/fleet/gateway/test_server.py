import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.exceptions import WebSocketException

from fededge.errors import GatewayError, RegistryError, StorageError
from fededge.fleet.gateway.server import serve
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.registry.database import Registry
from tests.gateway_client import Client, Operator
from tests.gateway_process import Gateway, token


class Authority:
    """A certificate authority of a test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self._certificate(self._name, self._key, self.file, x509.BasicConstraints(ca=True, path_length=None))

    def certify(self, name: str) -> tuple[Path, Path]:
        """Files of a certificate for 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        files = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        self._certificate(subject, key, files[0], address)
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _certificate(self, subject: x509.Name, key: Any, file: Path, extension: Any) -> None:
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def admin_of(gateway: Gateway, **options: Any) -> Operator:
    registry = Registry.open(f"sqlite:///{gateway.folder}/registry.db")
    secret = token(registry)
    registry.close()
    return Operator(gateway.url, secret, **options)


def test_a_certificate_that_is_replaced_is_taken_up(tmp_path: Path, authority: Authority, until: Any) -> None:
    certificate, key = authority.certify("gateway")
    with Gateway.start(
        tmp_path, certificate_file=certificate, private_key_file=key, certificate_seconds=0.05
    ) as gateway:
        before = serial(gateway)
        renewed, renewed_key = authority.certify("renewed")
        renewed.rename(certificate)  # in the middle of a change they do not fit
        until(lambda: gateway.events("certificate"))
        assert "cannot use the certificate" in gateway.events("certificate")[0]["problem"]
        assert serial(gateway) == before
        renewed_key.rename(key)
        until(lambda: serial(gateway) != before)
        trusted = ssl.create_default_context(cafile=authority.file)
        assert httpx.get(f"{gateway.url}/health", verify=trusted, trust_env=False).status_code == 200


def serial(gateway: Gateway) -> int:
    """Number of the certificate that a gateway shows."""
    address = "127.0.0.1", int(gateway.url.rpartition(":")[2])
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(address).encode()).serial_number


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_carries_the_api_and_the_conversation(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.certify("gateway")
    with Gateway.start(
        tmp_path, certificate_file=certificate, private_key_file=key, head_seconds=1.0
    ) as gateway:
        assert gateway.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=authority.file)
        admin = admin_of(gateway, verify=trusted)
        silent = socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=60)
        assert silent.recv(1) == b""
        silent.close()
        client = admin.enroll("site", ssl=trusted).join()
        assert client.ask({"type": "heartbeat"}).type == "heartbeat"
        client.close()
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{gateway.url}/health", trust_env=False)
        old = ssl.create_default_context(cafile=authority.file)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{gateway.url}/health", verify=old, trust_env=False)
        admin.close()


def test_with_a_ca_of_clients_nobody_is_served_without_its_certificate(
    tmp_path: Path, authority: Authority, until: Any
) -> None:
    certificate, key = authority.certify("gateway")
    others = Authority(tmp_path, "others")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.file.read_bytes())
    with Gateway.start(
        tmp_path,
        certificate_file=certificate,
        private_key_file=key,
        client_ca_file=trusted,
        certificate_seconds=0.05,
    ) as gateway:
        known, unknown, bare = (ssl.create_default_context(cafile=authority.file) for _ in range(3))
        known.load_cert_chain(*authority.certify("site"))
        unknown.load_cert_chain(*others.certify("stranger"))
        for context in (unknown, bare):
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                httpx.get(f"{gateway.url}/health", verify=context, trust_env=False)
            with pytest.raises((WebSocketException, OSError)):
                Client(gateway.url, "site", ssl=context).open()
        admin = admin_of(gateway, verify=known)
        client = admin.enroll("site", ssl=known).join()
        client.close()
        admin.close()
        others.file.replace(trusted)  # another CA takes the place of the first
        until(lambda: gateway.events("certificate"))
        assert httpx.get(f"{gateway.url}/health", verify=unknown, trust_env=False).status_code == 200
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            httpx.get(f"{gateway.url}/health", verify=known, trust_env=False)


def test_plain_http_is_served_to_this_machine_unless_that_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"plain HTTP on 0\.0\.0\.0 .*--insecure") as refused:
        serve(settings(tmp_path, host="0.0.0.0"))
    assert refused.value.reason == "TLS"
    with Gateway.start(tmp_path, host="0.0.0.0", insecure=True) as gateway:
        assert httpx.get(f"{gateway.url}/health", trust_env=False).json() == {"state": "up"}


def settings(folder: Path, **changes: Any) -> GatewaySettings:
    return GatewaySettings(
        port=0, database=f"sqlite:///{folder}/registry.db", storage=folder.as_uri(), **changes
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda folder: {"certificate_file": folder / "x"}, "needs a certificate and its private key"),
        (lambda folder: {"client_ca_file": folder / "x"}, "certificates of clients need TLS"),
        (
            lambda folder: {"certificate_file": folder / "x", "private_key_file": folder / "y"},
            "cannot use the certificate and its key in .*No such file",
        ),
        (lambda folder: {"host": "192.0.2.1", "insecure": True}, "cannot listen on 192.0.2.1"),
    ],
)
def test_settings_that_cannot_be_served_are_refused_before_anything_is_made(
    tmp_path: Path, changes: Callable[[Path], dict[str, Any]], message: str
) -> None:
    with pytest.raises((GatewayError, StorageError), match=message):
        serve(settings(tmp_path, **changes(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_taken_is_named(gateway: Gateway, tmp_path: Path) -> None:
    port = int(gateway.url.rpartition(":")[2])
    taken = GatewaySettings(port=port, database=f"sqlite:///{tmp_path}/r.db", storage=tmp_path.as_uri())
    with pytest.raises(GatewayError, match=f"cannot listen on 127.0.0.1:{port}.*Choose another"):
        serve(taken)


def test_a_registry_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    broken = GatewaySettings(port=0, database="nonsense", storage=tmp_path.as_uri())
    with pytest.raises(RegistryError, match="cannot be read: write sqlite"):
        serve(broken)


def test_machines_see_whether_it_is_up_and_ready(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, trust_env=False) as http:
        assert http.get("/health").json() == {"state": "up"}
        assert http.get("/ready").json() == {"state": "ready"}
        metrics = http.get("/metrics").text
        assert "fededge_connections 0.0" in metrics
        assert 'fededge_requests_total{method="GET",route="/health",status="200"} 1.0' in metrics


def test_addresses_behind_a_trusted_proxy_are_told_apart(tmp_path: Path) -> None:
    rate = {"per_second": 0.001, "burst": 1}
    for proxies, second in (((), 429), (("127.0.0.1",), 401)):
        with Gateway.start(tmp_path, requests_rate=rate, trusted_proxies=proxies) as gateway:
            for address, status in (("192.0.2.1", 401), ("192.0.2.2", second), ("192.0.2.1", 429)):
                headers = {"x-forwarded-for": address}
                answer = httpx.get(f"{gateway.url}/v1/clients", headers=headers, trust_env=False)
                assert answer.status_code == status
