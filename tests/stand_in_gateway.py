"""A gateway for the tests of clients: it speaks the protocol over real sockets and keeps what it is told."""

import asyncio
import base64
import hashlib
import http.client
import io
import json
import re
import ssl
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fededge.protocol import (
    Accept,
    Assignment,
    Bye,
    Challenge,
    ClientMessage,
    Decline,
    Enrollment,
    Follow,
    Heartbeat,
    Hello,
    Object,
    Offer,
    Order,
    Received,
    Releases,
    ReportMessage,
    UploadPlace,
    UploadRequest,
    Welcome,
    connection_bytes,
    digests,
    enrollment_bytes,
    from_client,
)
from fededge.signing import SigningKey
from fededge.storage import digest

T = TypeVar("T")
SECONDS = 60.0
TENANT, CLIENT, TOKEN = "clinic", "ward-3", "one-time-token-of-a-test"
DIGEST = "sha256:" + "0" * 64
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\2" * 32))
"""Of the coordinator, whom the policy of the tests trusts."""


@dataclass
class Answer:
    """Of HTTP; `cut`: bytes of the body after which the connection breaks."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


Handler = Callable[[str, str, Mapping[str, str], bytes], Answer | None]


class Session:
    """One WebSocket, from the gateway's side."""

    def __init__(self, writer: asyncio.StreamWriter, protocol: ServerProtocol) -> None:
        self._writer, self._protocol = writer, protocol

    async def send(self, message: Any) -> None:
        await self.send_text(message.model_dump_json(exclude_none=True))

    async def send_text(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        await self.flush()

    async def flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
        await self._writer.drain()

    def cut(self) -> None:
        """Break the connection without a word."""
        self._writer.transport.abort()


class StandInGateway:
    """See above; use it with `async with`.

    Attributes:
        said: what clients said, in order.
        objects, uploads: bytes by name.
        offers: releases by task.
        puts: each PUT: name, Content-Range, bytes.
        react: by type of message, takes the place of what the gateway would answer.
        http: looks at each request first.
        upload_limit: bytes of an upload after which the connection breaks, by path and what is there; None goes on.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.said: list[ClientMessage] = []
        self.sessions: list[Session] = []
        self.keys: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.offers: dict[str, Offer] = {}
        self.uploads: dict[str, bytearray] = {}
        self.puts: list[tuple[str, str, int]] = []
        self.react: dict[str, Callable[[Session, Any], Awaitable[None]]] = {}
        self.behave()
        self.heartbeat_seconds = 30.0
        self.changed = asyncio.Condition()

    def behave(self) -> None:
        """From now on answer as a gateway does."""
        self.react.clear()
        self.http: Handler = lambda method, path, headers, body: None
        self.upload_limit: Callable[[str, int], int | None] = lambda path, have: None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://localhost:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for session in self.sessions:
            session.cut()

    async def until(self, look: Callable[[], T | None]) -> T:
        """What `look` finds, once it finds anything; it is asked whenever the gateway was told something."""
        async with asyncio.timeout(SECONDS), self.changed:
            while True:
                if (found := look()) is not None and found is not False:
                    return found
                await self.changed.wait()

    async def hears(self, kind: type[T], count: int = 1) -> T:
        """The message number `count` of a kind, once it came."""

        def look() -> T | None:
            found = [message for message in self.said if isinstance(message, kind)]
            return found[count - 1] if len(found) >= count else None

        return await self.until(look)

    def heard(self, kind: type[T]) -> list[T]:
        return [message for message in self.said if isinstance(message, kind)]

    async def tell(self, message: Any) -> None:
        """Send to the last client that connected."""
        await self.sessions[-1].send(message)

    def order(
        self, number: int = 1, plan: bytes | None = None, weights: bytes = b"weights", **changes: Any
    ) -> Assignment:
        """Keep the bytes of a plan and weights, and order a round's work on them.

        Args:
            number: of the round.
            plan: its zip file.
            weights: their bytes.
            changes: in the order; `key`, `share`, `seconds_left`, `upload`: beside it.
        """
        plan = plan_zip() if plan is None else plan
        key, share = changes.pop("key", KEY), changes.pop("share", 1.0)
        upload = changes.pop("upload", None)
        seconds_left = changes.pop("seconds_left", 600.0)
        fields: dict[str, Any] = {
            "tenant": TENANT,
            "task": "wearables",
            "identity": DIGEST,
            "owner": "ada",
            "round_id": f"r-{number}",
            "kind": "train",
            "dataset": "steps",
            "number": number,
            "seed": 3,
            "cohort": 5,
            "min_clients": 3,
            "framework": "keras",
            "plan": digest(plan),
            "weights": digest(weights),
            "issued": float(number),
        }
        order = Order(**(fields | changes))
        return Assignment(
            id=f"{order.round_id}.{CLIENT}",
            order=order.signed(key),
            plan=self.keep(plan),
            weights=self.keep(weights),
            upload=upload,
            seconds_left=seconds_left,
            share=share,
        )

    def keep(self, data: bytes) -> Object:
        name = hashlib.sha256(data).hexdigest()
        self.objects[name] = data
        return Object(digest=digest(data), bytes=len(data), url=f"{self.url}/v1/objects/{name}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /v1/connect "):
                await self._socket(head, reader, writer)
            else:
                await self._request(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _note(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _socket(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self.http("GET", "/v1/connect", {}, b"")
        if refusal is not None:
            writer.write(_encoded(refusal))
            await writer.drain()
            return
        protocol = ServerProtocol(subprotocols=[Subprotocol("fededge")], max_size=1 << 20)
        protocol.receive_data(head)
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        session = Session(writer, protocol)
        self.sessions.append(session)
        nonce = base64.b64encode(hashlib.sha256(str(len(self.sessions)).encode()).digest()).decode()
        self.challenge = Challenge(nonce=nonce, gateway="gateway-0", at=1.0)
        await self._reaction(session, "challenge", self.challenge)
        while data := await reader.read(1 << 16):
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    message = from_client(bytes(event.data))
                    self.said.append(message)
                    await self._reaction(session, message.type, message)
            await session.flush()
            await self._note()
            if protocol.close_expected():
                break

    async def _reaction(self, session: Session, kind: str, message: Any) -> None:
        await self.react.get(kind, self._react)(session, message)

    async def _react(self, session: Session, message: Any) -> None:
        match message:
            case Challenge():
                await session.send(message)
            case Hello():
                self.prove(message)
                await session.send(
                    Welcome(version=2, session="s-1", heartbeat_seconds=self.heartbeat_seconds)
                )
            case Heartbeat():
                await session.send(Heartbeat())
            case Accept():
                await session.send(Received(assignment=message.assignment, of="accept", outcome="kept"))
            case Decline():
                await session.send(Received(assignment=message.assignment, of="decline", outcome="kept"))
            case UploadRequest():
                await session.send(self.place(message))
            case ReportMessage():
                await session.send(Received(assignment=message.assignment, of="report", outcome="kept"))
            case Follow():
                known = {each.task: each.manifest for each in message.releases}
                offers = [self.offers[task] for task in known if task in self.offers]
                newer = [offer for offer in offers if offer.manifest.digest != known[offer.task]]
                await session.send(Releases(offers=newer))
            case Bye():
                pass

    def release(self, envelope: bytes, model: bytes, task: str = "tiny") -> None:
        """From now on offer a release to who follows the task."""
        self.offers[task] = Offer(task=task, manifest=self.keep(envelope), model=self.keep(model))

    def prove(self, hello: Hello) -> None:
        """Check a hello's proof."""
        data = connection_bytes(
            base64.b64decode(self.challenge.nonce), self.challenge.gateway, hello.tenant, hello.client
        )
        Ed25519PublicKey.from_public_bytes(self.keys[hello.client]).verify(
            base64.b64decode(hello.signature), data
        )

    def place(self, message: UploadRequest) -> UploadPlace:
        name = message.digest.removeprefix("sha256:")
        there = self.uploads.get(name, bytearray())
        return UploadPlace(
            assignment=message.assignment,
            url=f"{self.url}/v1/uploads/{name}",
            offset=len(there),
            resumable=True,
            done=len(there) == message.bytes and digest(bytes(there)) == message.digest,
        )

    async def _request(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, _, rest = head.partition(b"\r\n")
        method, path, _ = line.decode().split()
        headers = {name.lower(): value for name, value in http.client.parse_headers(io.BytesIO(rest)).items()}
        body = bytearray()
        try:
            while len(body) < int(headers.get("content-length", 0)):
                data = await reader.read(1 << 16)
                if not data:
                    break
                body += data
                limit = self.upload_limit(path, len(body))
                if limit is not None:
                    del body[limit:]
                    writer.transport.abort()
                    break
        finally:
            answer = self.http(method, path, headers, bytes(body)) or self._answer(
                method, path, headers, body
            )
            await self._note()
        writer.write(_encoded(answer))
        await writer.drain()

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytearray) -> Answer:
        if (method, path) == ("POST", "/v1/enroll"):
            return self._enroll(bytes(body))
        name = path.rsplit("/", 1)[-1]
        if method == "GET" and name in self.objects:
            data = self.objects[name]
            start = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
            if start is None:
                return Answer(200, data)
            return Answer(
                206, data[int(start[1]) :], {"Content-Range": f"bytes {start[1]}-{len(data) - 1}/{len(data)}"}
            )
        if method == "PUT":
            told = digests.from_header(headers.get("repr-digest", ""))
            name = name if told is None else told.removeprefix("sha256:")
            self.puts.append((name, headers.get("content-range", ""), len(body)))
            start = re.match(r"bytes (\d+)-", headers.get("content-range", ""))
            there = self.uploads.setdefault(name, bytearray())
            del there[int(start[1]) if start else 0 :]
            there += body
            return Answer(201)
        return Answer(404)

    def _enroll(self, body: bytes) -> Answer:
        asked = Enrollment.model_validate_json(body)
        key = base64.b64decode(asked.public_key)
        Ed25519PublicKey.from_public_bytes(key).verify(
            base64.b64decode(asked.signature), enrollment_bytes(asked.token, key)
        )
        if asked.token != TOKEN or self.keys.get(CLIENT, key) != key:
            problem = {"reason": "FORBIDDEN", "message": "this token was used already"}
            return Answer(403, json.dumps(problem).encode())
        self.keys[CLIENT] = key
        return Answer(201, json.dumps({"tenant": TENANT, "client": CLIENT, "kind": "site"}).encode())


def _encoded(answer: Answer) -> bytes:
    headers = {"Content-Length": str(len(answer.body)), "Connection": "close"} | answer.headers
    head = f"HTTP/1.1 {answer.status} X\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
    return head.encode() + (answer.body if answer.cut is None else answer.body[: answer.cut])


def plan_zip(**files: str) -> bytes:
    """A plan's zip file for the runner of the tests; `files` by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"plan.json": "{}", **files}.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


def certificate(folder: Path) -> ssl.SSLContext:
    """TLS for the server `localhost`, by a self-signed certificate in `folder`/ca.pem."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "ca-key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "ca-key.pem")
    return context
