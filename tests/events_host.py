"""A host of the gateway's functions in this process, and who sends it CloudEvents."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from starlette.testclient import TestClient

from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.hosts.app import NAMES, create_app
from fededge.protocol import connection_bytes
from tests.gateway_client import SCHEMA, Client


class Events:
    """Sends events to a host, and tells what they are answered with."""

    def __init__(self, client: httpx.Client, secret: str | None, structured: bool) -> None:
        self.client = client
        self.structured = structured
        self.headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}

    def send(self, path: str, kind: str, subject: str | None, data: Any, **more: Any) -> httpx.Response:
        attributes = {
            "type": kind,
            "source": "/tests",
            "id": "1",
            "datacontenttype": "application/json",
            **more,
        }
        if subject is not None:
            attributes["subject"] = subject
        write = http.to_structured if self.structured else http.to_binary
        message = write(CloudEvent(attributes, data), JSONFormat())
        return self.client.post(path, content=message.body, headers=message.headers | self.headers)

    def __call__(self, function: str, verb: str, subject: str | None = None, data: Any = None) -> Any:
        response = self.send(f"/{function}", f"dev.fededge.{function}.{verb}", subject, data or {})
        assert response.status_code == 200, response.text
        event = http.from_http_event(http.HTTPMessage(dict(response.headers), response.content))
        assert event.get_type() == f"dev.fededge.{function}.{verb}.answer"
        assert event.get_subject() == subject
        answer: Any = event.get_data()
        return answer


@contextmanager
def hosted(
    folder: Path, look: Callable[[float], None] = lambda _: None, **settings: Any
) -> Iterator[TestClient]:
    """A host of all functions over a registry and store in `folder`."""
    chosen = GatewaySettings(
        database=f"sqlite:///{folder}/registry.db",
        storage=f"file://{folder}/storage",
        id="host",
        **settings,
    )
    with TestClient(create_app(chosen, "http://testserver", NAMES, look)) as client:
        yield client


def joined(ask: Events, client: Client) -> str:
    nonce = b"n" * 32
    proof = client.key.sign(connection_bytes(nonce, "holder", client.tenant, client.client))
    hello = {
        "type": "hello",
        "tenant": client.tenant,
        "client": client.client,
        "signature": base64.b64encode(proof).decode(),
        "frameworks": ["keras"],
        "datasets": [{"name": "digits", "train": 100, "test": 10, "schema_digest": SCHEMA}],
    }
    told = {"gateway": "holder", "nonce": base64.b64encode(nonce).decode(), "hello": hello}
    opened = ask("monitoring", "connect", client.client, {**told, "heartbeat_seconds": 30.0})
    session: str = opened["session"]
    return session
