"""A client of a gateway as tests play it: it says what it is told to say, right or wrong."""

import base64
import json
from contextlib import closing, suppress
from typing import Any, Self

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fededge import storage
from fededge.protocol import (
    SUBPROTOCOL,
    Challenge,
    connection_bytes,
    digests,
    enrollment_bytes,
    from_gateway,
)

SCHEMA = storage.digest(b"schema")
HELD = {"name": "digits", "train": 100, "test": 10, "schema_digest": SCHEMA}


class Client:
    """One client, with a key of its own.

    Args:
        url: of the gateway.
        options: of the WebSocket.
    """

    def __init__(self, url: str, client: str, tenant: str = "default", **options: Any) -> None:
        self.url = url
        self.client = client
        self.tenant = tenant
        self.key = Ed25519PrivateKey.generate()
        self.session: str | None = None
        self.socket: ClientConnection | None = None
        self._options = options

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def enrollment(self, token: str) -> dict[str, str]:
        """The body that asks to be taken in."""
        signature = self.key.sign(enrollment_bytes(token, self.public_key))
        return {
            "token": token,
            "public_key": base64.b64encode(self.public_key).decode(),
            "signature": base64.b64encode(signature).decode(),
        }

    def open(self, **options: Any) -> Challenge:
        """Connect, and hear the challenge."""
        url = f"ws{self.url.removeprefix('http')}/v1/connect"
        defaults: dict[str, Any] = {
            "subprotocols": [SUBPROTOCOL],
            "compression": None,
            "ping_interval": None,
            "proxy": None,
            "close_timeout": 1,
        }
        self.close()
        self.socket = connect(url, **{**defaults, **self._options, **options}).__enter__()
        challenge = self.hear()
        assert isinstance(challenge, Challenge)
        return challenge

    def hello(self, challenge: Challenge, **changes: Any) -> dict[str, Any]:
        """The right answer to a challenge, with changes."""
        nonce = base64.b64decode(challenge.nonce)
        told = connection_bytes(nonce, challenge.gateway, self.tenant, self.client)
        hello: dict[str, Any] = {
            "type": "hello",
            "tenant": self.tenant,
            "client": self.client,
            "signature": base64.b64encode(self.key.sign(told)).decode(),
            "frameworks": ["keras"],
            "datasets": [HELD],
        }
        return hello | changes

    def join(self, **changes: Any) -> Self:
        """Connect, and be welcome."""
        self.say(self.hello(self.open(), **changes))
        welcome = self.hear()
        assert welcome.type == "welcome", welcome
        self.session = welcome.session
        return self

    def say(self, message: dict[str, Any] | str | bytes) -> None:
        assert self.socket is not None
        self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    def hear(self, seconds: float = 20) -> Any:
        """The next message."""
        assert self.socket is not None
        return from_gateway(self.socket.recv(seconds))

    def ask(self, message: dict[str, Any] | str | bytes) -> Any:
        """Say something, and hear the next message."""
        self.say(message)
        return self.hear()

    def ended(self) -> int | None:
        """The code with which the gateway closed the connection, after whatever it still said."""
        assert self.socket is not None
        with suppress(ConnectionClosed):
            while True:
                self.socket.recv(20)
        return self.socket.close_code

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()


class Operator:
    """An operator's HTTP client. Every answer is checked to be JSON; those of 400 on to be a Problem."""

    def __init__(self, url: str, token: str | None, **options: Any) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, **options)

    def __call__(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The answer's content, of a request that must succeed."""
        answer = self.http.request(method, path, json=body, **options)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def refused(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
        """Status and reason of a request that must be refused."""
        answer = self.http.request(method, path, json=body, **options)
        assert answer.status_code >= 400, answer.text
        problem = answer.json()
        assert problem["message"]
        return answer.status_code, problem["reason"]

    def enroll(self, client: str, **options: Any) -> Client:
        """A new client, not connected."""
        made = self("POST", "/v1/enrollments", {"client": client})["items"][0]
        new = Client(str(self.http.base_url).rstrip("/"), client, **options)
        enrolled = self("POST", "/v1/enroll", new.enrollment(made["token"]))
        new.tenant = enrolled["tenant"]
        return new

    def store(self, data: bytes) -> str:
        """Digest of `data`, once the gateway has it."""
        digest = storage.digest(data)
        place = self("POST", "/v1/blobs", {"digest": digest, "bytes": len(data)})
        if place.get("url"):
            answer = self.http.put(place["url"], content=data)
            assert answer.status_code == 201, answer.text
        return digest

    def round(self, name: str, cohort: list[str], **changes: Any) -> Any:
        """Open a round, and tell how it stands."""
        request = {
            "task": "digits",
            "kind": "train",
            "number": 1,
            "dataset": "digits",
            "order": "an order",
            "plan": self.store(b"plan"),
            "weights": self.store(b"weights"),
            "cohort": cohort,
            "seconds": 600.0,
            "update_bytes": 6,
        }
        return self("PUT", f"/v1/rounds/{name}", request | changes)

    def close(self) -> None:
        self.http.close()


def stored(place: Any, data: bytes, url: str) -> httpx.Response:
    """The answer to a PUT of `data` to a place that a gateway at `url` named."""
    return put(place.url, data, url)


def put(to: str, data: bytes, url: str) -> httpx.Response:
    """The answer to a PUT of `data`, with its digest, to a URL of a gateway at `url`."""
    headers = {digests.HEADER: digests.to_header(storage.digest(data))}
    with closing(httpx.Client(base_url=url, trust_env=False)) as http:
        return http.put(to, content=data, headers=headers)
