"""Whoever sends the functions' hosts events that are forged, malformed or not theirs is refused and changes nothing."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fededge.fleet.registry.database import Registry
from tests.events_host import Events, hosted, joined
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token

LIST = "dev.fededge.monitoring.list"
EVENT = {"specversion": "1.0", "id": "1", "source": "/x", "type": LIST}
STRUCTURED = "application/cloudevents+json"

BODIES = [b"", b"no JSON", b"[]", b"null", b'"text"', b"\xff\xfe", 19_000 * b"["]
CHANGED: list[dict[str, Any]] = [
    {name: value for name, value in EVENT.items() if name != "id"},
    {name: value for name, value in EVENT.items() if name != "type"},
    EVENT | {"specversion": "0.3"},
    EVENT | {"specversion": {}},
    EVENT | {"id": 7},
    EVENT | {"id": "\ud800"},
    EVENT | {"id": 2000 * "x"},
    EVENT | {"source": ""},
    EVENT | {"time": "yesterday"},
    EVENT | {"time": 5},
    EVENT | {"time": "9999-99-99T99:99:99Z"},
    EVENT | {"subject": ["a"]},
    EVENT | {"Wrong-Name": "x"},
    EVENT | {"data_base64": "W10="},
    EVENT | {"data_base64": 5},
    EVENT | {"data": [1]},
    EVENT | {"data": "text"},
    EVENT | {"data": {"limit": 10**9}},
    EVENT | {"data": {"unknown": 1}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("functions")


@pytest.fixture(scope="module")
def registry(folder: Path) -> Iterator[Registry]:
    opened = Registry.open(f"sqlite:///{folder}/registry.db")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def secret(registry: Registry) -> str:
    return token(registry)


@pytest.fixture(scope="module")
def host(folder: Path, secret: str) -> Iterator[TestClient]:
    with hosted(folder, body_bytes=20_000, round_bytes=40_000) as client:
        yield client


def refusal(response: Any) -> tuple[int, str]:
    """Status and reason of an answer that is a Problem and no event."""
    assert "ce-id" not in response.headers
    problem = response.json()
    assert problem["message"]
    return response.status_code, problem["reason"]


@pytest.mark.parametrize(
    "kind", ["dev.fededge.monitoring.list.answer", "dev.fededge.selection.select", "x", "🔥"]
)
def test_an_event_of_another_type_does_nothing(host: TestClient, secret: str, kind: str) -> None:
    response = Events(host, secret, structured=True).send("/monitoring", kind, None, {})
    assert refusal(response) == (404, "NO_EVENT")


@pytest.mark.parametrize("given", [None, "fe_0123456789abcdef_" + 64 * "0", "x.y.z"])
def test_who_has_no_token_of_this_registry_is_nobody(host: TestClient, given: str | None) -> None:
    response = Events(host, given, structured=False).send("/monitoring", LIST, None, {})
    assert refusal(response) == (401, "UNAUTHORIZED")


def test_an_operator_speaks_for_no_client(host: TestClient, registry: Registry) -> None:
    operator = Events(host, token(registry, "operator"), structured=False)
    for function, verb, subject, data in (
        ("monitoring", "disconnect", None, {"session": "a"}),
        ("model-update", "accept", "a", {"type": "accept", "assignment": "a"}),
        ("aggregation", "report", "a", {"type": "report", "assignment": "a", "failure": "forged"}),
    ):
        response = operator.send(f"/{function}", f"dev.fededge.{function}.{verb}", subject, data)
        assert refusal(response) == (403, "FORBIDDEN")


def test_an_admin_of_a_tenant_sees_no_other_tenants_work(host: TestClient, registry: Registry) -> None:
    other = Events(host, token(registry, "admin", "other"), structured=False)
    for function, verb, data in (
        ("model-update", "dispatch", {"gateway": "holder"}),
        ("monitoring", "lease", {"gateway": "holder", "url": "http://evil", "seconds": 1.0}),
    ):
        response = other.send(f"/{function}", f"dev.fededge.{function}.{verb}", None, data)
        assert refusal(response) == (403, "FORBIDDEN")


@pytest.mark.parametrize("structured", [False, True])
def test_an_event_beyond_the_bound_is_refused(host: TestClient, secret: str, structured: bool) -> None:
    events = Events(host, secret, structured)
    response = events.send("/monitoring", LIST, None, {"after": 20_000 * "x"})
    assert refusal(response) == (413, "TOO_LARGE")
    # Rounds may be larger, and nothing else that is sent to the same function.
    response = events.send("/model-update", "dev.fededge.model-update.expire", None, {"x": 30_000 * "x"})
    assert refusal(response) == (413, "TOO_LARGE")


@pytest.mark.parametrize("body", [*BODIES, *(json.dumps(each).encode() for each in CHANGED)])
def test_a_malformed_event_is_refused(host: TestClient, secret: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": STRUCTURED}
    assert refusal(host.post("/monitoring", content=body, headers=headers)) == (400, "MALFORMED")


@pytest.mark.parametrize(
    "kind", ["application/cloudevents-batch+json", "text/xml", "application/cloudevents+avro"]
)
def test_an_event_of_another_form_is_refused(host: TestClient, secret: str, kind: str) -> None:
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": kind}
    assert refusal(host.post("/monitoring", content=b"[]", headers=headers)) == (
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    )


@pytest.mark.parametrize("subject", [None, "../etc", "a b", 300 * "a", "a\u2028b"])
def test_a_subject_that_is_no_name_is_refused(host: TestClient, secret: str, subject: str | None) -> None:
    response = Events(host, secret, structured=True).send(
        "/monitoring", "dev.fededge.monitoring.show", subject, {}
    )
    assert refusal(response) == (400, "MALFORMED")


def test_a_proof_is_worth_nothing_for_another_client_gateway_or_challenge(
    host: TestClient, folder: Path, secret: str
) -> None:
    with Gateway.start(folder) as gateway:
        operator = Operator(gateway.url, secret)
        first, second = operator.enroll("first"), operator.enroll("second")
        operator.close()
    sent: list[Any] = []

    class Recorded(Events):
        def __call__(self, function: str, verb: str, subject: str | None = None, data: Any = None) -> Any:
            sent.append((subject, data))
            return super().__call__(function, verb, subject, data)

    session = joined(Recorded(host, secret, structured=False), first)
    ((_, told),) = sent
    events = Events(host, secret, structured=False)

    def replayed(subject: str, **changes: Any) -> tuple[int, str]:
        return refusal(events.send("/monitoring", "dev.fededge.monitoring.connect", subject, told | changes))

    assert replayed("first", nonce=base64.b64encode(bytes(32)).decode()) == (403, "REVOKED")
    assert replayed("first", gateway="another") == (403, "REVOKED")
    assert replayed("second") == (403, "FORBIDDEN")
    assert replayed("second", hello=told["hello"] | {"client": "second"}) == (403, "REVOKED")
    assert events("monitoring", "show", "first")["connected"] is False  # nobody holds a lease
    assert events("monitoring", "beat", None, {"sessions": {session: None}}) == {"ended": []}
    assert second.session is None
