"""HTTP to a gateway: what is sent again and what is not, who gets the token, and which bytes are taken."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fededge import storage
from fededge.errors import GatewayError, IntegrityError
from fededge.fleet.gateway_client import GatewayClient
from fededge.fleet.gateway_connection import Connection
from fededge.protocol import Accepted, Caller, ClientChange, OperatorRequest

pytestmark = pytest.mark.environment("platform", "worker")
CALLER = b'{"tenant": "t", "name": "n", "scope": "reader"}'
BUSY = b'{"reason": "OVERLOADED", "message": "come back later"}'


@dataclass
class Answer:
    """What the scripted server does: a status with a body, or with None it hangs up after it read the request."""

    status: int | None
    body: bytes = CALLER
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Script:
    """A server that gives its answers one after the other, the last for ever, and notes what it was sent."""

    answers: list[Answer]
    url: str = ""
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def tokens(self) -> list[str | None]:
        return [headers.get("authorization") for _, _, headers, _ in self.seen]


@contextmanager
def serving(*answers: Answer, certificate: Path | None = None) -> Iterator[Script]:
    script = Script(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            script.seen.append((self.command, self.path, headers, body))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            if answer.status is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret-1\n")
    return tmp_path / "token"


def opened(script: Script, token: Path | None, patience: float = 30.0) -> GatewayClient:
    return GatewayClient(script.url, token, patience=patience)


@pytest.mark.parametrize(
    "trouble",
    [Answer(503, BUSY), Answer(429, BUSY, {"retry-after": "0"}), Answer(None)],
    ids=["overloaded", "too frequent", "hung up"],
)
def test_a_request_is_sent_again_until_it_is_answered(trouble: Answer, token: Path) -> None:
    with serving(trouble, trouble, Answer(200)) as script, opened(script, token) as gateway:
        assert gateway.caller() == Caller(tenant="t", name="n", scope="reader")
        assert len(script.seen) == 3


def test_a_gateway_that_cannot_be_reached_is_told_once_the_patience_is_over(token: Path) -> None:
    with serving(Answer(200)) as script:
        url = script.url
    with GatewayClient(url, token, patience=0.2) as gateway:
        with pytest.raises(
            GatewayError, match=r"cannot reach http://127\.0\.0\.1:\d+/v1/caller: .*Check"
        ) as caught:
            gateway.caller()
    assert (caught.value.reason, caught.value.status) == ("UNREACHABLE", 0)


def test_the_time_that_the_gateway_names_is_waited_for_and_no_longer_than_patience(token: Path) -> None:
    later = Answer(503, BUSY, {"retry-after": "3600"})
    with serving(later) as script, opened(script, token) as gateway:
        with pytest.raises(GatewayError, match="come back later") as caught:
            gateway.caller()
    assert (caught.value.reason, caught.value.status) == ("OVERLOADED", 503)
    assert len(script.seen) == 1  # an hour is more than the patience


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 502])
def test_a_refusal_is_not_asked_again(status: int, token: Path) -> None:
    body = b'{"reason": "FORBIDDEN", "message": "this needs a token of scope operator: use another"}'
    with serving(Answer(status, body)) as script, opened(script, token) as gateway:
        with pytest.raises(GatewayError, match="needs a token of scope operator") as caught:
            gateway.caller()
    assert (caught.value.reason, caught.value.status) == ("FORBIDDEN", status)
    assert len(script.seen) == 1


def test_what_must_not_be_done_twice_is_not_sent_twice_where_it_may_have_been_taken(token: Path) -> None:
    request = OperatorRequest(name="ci", scope="operator")
    with serving(Answer(None)) as script, opened(script, token) as gateway:
        with pytest.raises(GatewayError, match="cannot reach"):
            gateway.make_token(request)
        assert len(script.seen) == 1
    busy, made = Answer(503, BUSY), Answer(409, BUSY)
    with serving(busy, made) as script, opened(script, token) as gateway:
        with pytest.raises(GatewayError, match="come back later"):
            gateway.make_token(request)
        assert len(script.seen) == 2  # who is busy has not taken it


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<html>"), "answers no Caller: .*Update the older side"),
        (Answer(200, b'{"tenant": 5}'), "answers no Caller: tenant"),
        (Answer(404, b"<html>not here</html>"), "answers 404 Not Found: check FEDEDGE_GATEWAY"),
        (Answer(302, b"", {"location": "http://127.0.0.1:9/"}), "answers 302 Found: check FEDEDGE_GATEWAY"),
    ],
)
def test_answers_of_something_else_than_a_gateway_are_told(answer: Answer, words: str, token: Path) -> None:
    with serving(answer) as script, opened(script, token) as gateway:
        with pytest.raises(GatewayError, match=words):
            gateway.caller()


def test_the_token_is_read_anew_for_each_call_and_a_missing_one_is_told(token: Path) -> None:
    with serving(Answer(200)) as script, opened(script, token) as gateway:
        gateway.caller()
        token.write_text("secret-2")
        gateway.caller()
        token.unlink()
        with pytest.raises(
            GatewayError, match=r"cannot read the gateway's token in .*FEDEDGE_GATEWAY_TOKEN_FILE"
        ):
            gateway.caller()
        assert script.tokens == ["Bearer secret-1", "Bearer secret-2"]
    with serving(Answer(200)) as script, opened(script, None) as gateway:
        gateway.caller()
        assert script.tokens == [None]


def test_objects_of_another_host_are_fetched_and_sent_without_the_token(token: Path, tmp_path: Path) -> None:
    file = tmp_path / "object"
    data = b"weights" * 1000
    digest = storage.digest(data)
    with (
        serving(Answer(200, data)) as store,
        serving(Answer(200)) as script,
        opened(script, token) as gateway,
    ):
        gateway.fetch(f"{store.url}/bucket/object?signature=s", digest, len(data), file)
        assert file.read_bytes() == data
        gateway.put(f"{store.url}/bucket/other", data, offset=3000)
        assert store.tokens == [None, None]
        method, _, headers, body = store.seen[1]
        assert (method, body, headers["content-range"]) == ("PUT", data[3000:], "bytes 3000-6999/7000")
        store.answers = [Answer(200, data + b"more")]
        with pytest.raises(IntegrityError, match="more than the 7,000 bytes"):
            gateway.fetch(f"{store.url}/bucket/object", digest, len(data), file)
        store.answers = [Answer(200, data[:-1] + b"!")]
        with pytest.raises(IntegrityError, match="were promised"):
            gateway.fetch(f"{store.url}/bucket/object", digest, len(data), file)
        store.answers = [Answer(403, b"")]
        with pytest.raises(GatewayError) as caught:
            gateway.fetch(f"{store.url}/bucket/object?signature=s", digest, len(data), file)
        assert "signature" not in str(caught.value)


def test_what_is_there_already_is_not_sent_again(token: Path) -> None:
    there, place = (
        Answer(200, b'{"offset": 7}'),
        Answer(200, b'{"url": "/up", "offset": 4, "resumable": true}'),
    )
    with serving(there) as script, opened(script, token) as gateway:
        assert gateway.store(b"weights") == storage.digest(b"weights")
        assert [path for _, path, _, _ in script.seen] == ["/v1/blobs"]
    with serving(place, Answer(200, b"")) as script, opened(script, token) as gateway:
        gateway.store(b"weights")
        assert [(method, path, body) for method, path, _, body in script.seen[1:]] == [("PUT", "/up", b"hts")]


def test_a_place_that_is_refused_is_asked_for_once_more(token: Path) -> None:
    first, refused = Answer(200, b'{"url": "/old", "offset": 4, "resumable": true}'), Answer(409, BUSY)
    again, last = Answer(200, b'{"url": "/new"}'), Answer(200, b"")
    with serving(first, refused, again, last) as script, opened(script, token) as gateway:
        gateway.store(b"weights")
        sent = [(path, body) for method, path, _, body in script.seen if method == "PUT"]
        assert sent == [("/old", b"hts"), ("/new", b"weights")]
    with serving(first, refused, again, refused) as script, opened(script, token) as gateway:
        with pytest.raises(GatewayError):
            gateway.store(b"weights")


def test_a_list_is_read_page_after_page(token: Path) -> None:
    def entry(name: str) -> bytes:
        return b'{"name": "%s"}' % name.encode()

    pages = [
        Answer(200, b'{"items": [%s, %s], "next": "b c"}' % (entry("a"), entry("b"))),
        Answer(200, b'{"items": [%s]}' % entry("d")),
    ]
    with serving(*pages) as script, opened(script, token) as gateway:
        assert [tenant.name for tenant in gateway.tenants()] == ["a", "b", "d"]
        assert [path for _, path, _, _ in script.seen] == [
            "/v1/tenants?limit=500",
            "/v1/tenants?after=b+c&limit=500",
        ]


def test_each_call_has_the_method_the_path_and_the_body_of_the_api(token: Path) -> None:
    calls: list[tuple[Callable[[GatewayClient], object], str, str, bytes]] = [
        (lambda g: g.revoke_client("a"), "POST", "/v1/clients/a/revoke", b""),
        (lambda g: g.revoke_token("t1"), "DELETE", "/v1/tokens/t1", b""),
        (lambda g: g.delete_trigger("a/b"), "DELETE", "/v1/triggers/a%2Fb", b""),
        (lambda g: next(iter(g.clients("d", "eu", True, "active"))), "GET", QUERY, b""),
        (lambda g: next(iter(g.rounds("t", "open"))), "GET", "/v1/rounds?task=t&state=open&limit=500", b""),
        (lambda g: g.change_client("a", CHANGE), "PATCH", "/v1/clients/a", b'{"attributes":{"floor":null}}'),
    ]
    for call, method, path, body in calls:
        with serving(Answer(404, b"")) as script, opened(script, token) as gateway:
            with pytest.raises(GatewayError):
                call(gateway)
            found = script.seen[0]
            assert (found[0], found[1], found[3]) == (method, path, body)
    with serving(Answer(200, b"{}")) as script, opened(script, token) as gateway:
        assert gateway.revoke_client("a") == Accepted()


QUERY = "/v1/clients?dataset=d&region=eu&connected=true&state=active&limit=500"
CHANGE = ClientChange(attributes={"floor": None})


def test_the_environment_names_the_gateway(monkeypatch: pytest.MonkeyPatch, token: Path) -> None:
    monkeypatch.delenv("FEDEDGE_GATEWAY", raising=False)
    with pytest.raises(GatewayError, match="set FEDEDGE_GATEWAY") as caught:
        GatewayClient.from_settings()
    assert caught.value.reason == "NO_GATEWAY"
    with serving(Answer(200)) as script:
        monkeypatch.setenv("FEDEDGE_GATEWAY", f"{script.url}/")
        monkeypatch.setenv("FEDEDGE_GATEWAY_TOKEN_FILE", str(token))
        with GatewayClient.from_settings() as gateway:
            gateway.caller()
        assert (script.seen[0][1], script.tokens) == ("/v1/caller", ["Bearer secret-1"])


def test_authorities_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(GatewayError, match=r"authorities in .*Correct FEDEDGE_GATEWAY_CA_FILE"):
            Connection("https://gateway.example", None, tmp_path / name)


def certified(folder: Path) -> Path:
    """A PEM file with the key and the certificate of 127.0.0.1, which is its own authority."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "gateway.pem").write_bytes(text + certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "gateway.pem"


def test_a_gateway_is_trusted_by_its_authority_alone(token: Path, tmp_path: Path) -> None:
    pem = certified(tmp_path)
    with serving(Answer(200), certificate=pem) as script:
        with GatewayClient(script.url, token, pem) as gateway:
            assert gateway.caller().tenant == "t"
        with GatewayClient(script.url, token, patience=0.1) as gateway:
            with pytest.raises(GatewayError, match="certificate verify failed"):
                gateway.caller()
    assert script.tokens == ["Bearer secret-1"]
