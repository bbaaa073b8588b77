"""The gateway's functions as CloudEvents services: the same answers and the same registry as the gateway's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from fededge import storage
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata
from tests.events_host import Events, hosted, joined
from tests.gateway_client import SCHEMA, Operator
from tests.gateway_process import Gateway, token

UPDATE = b"update"
VOLATILE = re.compile(
    r"^(opened|deadline|closed|created|enrolled|last_\w+|next_\w+|stored|session|gateway|random_key|public_key|key_id|"
    r"seconds_left|start|speed|url)$"
)
"""What differs from one run of the same sequence to another: times, and what is drawn at random."""


@pytest.fixture
def admin(tmp_path: Path) -> str:
    """An administrator's token, of a registry in `tmp_path`."""
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    try:
        return token(registry)
    finally:
        registry.close()


def _selection() -> dict[str, Any]:
    return {
        "task": "digits",
        "dataset": "digits",
        "framework": "keras",
        "schema_digest": SCHEMA,
        "size": 10,
        "seed": 3,
        "number": 1,
    }


def _round(cohort: list[str], plan: str, weights: str, **changes: Any) -> dict[str, Any]:
    return {
        "task": "digits",
        "kind": "train",
        "number": 1,
        "dataset": "digits",
        "order": "an order",
        "plan": plan,
        "weights": weights,
        "cohort": cohort,
        "seconds": 600.0,
        "update_bytes": len(UPDATE),
        **changes,
    }


TRIGGER = {"when": "interval", "every_seconds": 3600.0, "task": '{"name":"digits"}'}


def through_the_gateway(folder: Path) -> list[Any]:
    """What a sequence of calls is answered with by a gateway."""
    with Gateway.start(folder) as gateway:
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        operator = Operator(gateway.url, token(registry))
        registry.close()
        told: list[Any] = []
        clients = [operator.enroll(name).join() for name in ("a", "b")]
        told.append(operator("POST", "/v1/selections", _selection()))
        plan, weights = operator.store(b"plan"), operator.store(b"weights")
        cohort = told[-1]["cohort"]
        told.append(operator("PUT", "/v1/rounds/r1", _round(cohort, plan, weights)))
        for client in clients:
            assignment = client.hear()
            told.append(assignment.to_content())
            told.append(client.ask({"type": "accept", "assignment": assignment.id}).to_content())
            of = {"assignment": assignment.id, "digest": storage.digest(UPDATE), "bytes": len(UPDATE)}
            place = client.ask({"type": "upload", **of})
            assert operator.http.put(place.url, content=UPDATE).status_code == 201
            told.append(client.ask({"type": "upload", **of}).to_content())
            report = {"assignment": assignment.id, "update": of["digest"], "seconds": 2.0}
            told.append(client.ask({"type": "report", **report}).to_content())
        told.append(operator("GET", "/v1/rounds/r1/reports", params={"after": 0}))
        closing = {"outcome": "committed", "losses": {"a": 0.5, "b": 0.25}}
        told.append(operator("POST", "/v1/rounds/r1/close", closing))
        told.append(operator("PUT", "/v1/triggers/often", TRIGGER))
        told.append(operator("POST", "/v1/triggers/often/fire"))
        told.append(operator("GET", "/v1/clients"))
        for client in clients:
            client.close()
        operator.close()
        assert gateway.end() == 0
        return told


def through_events(folder: Path, structured: bool) -> list[Any]:
    """What the same sequence is answered with by CloudEvents services."""
    with Gateway.start(folder) as gateway:  # takes clients in: enrollment is none of the five functions
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        secret = token(registry)
        registry.close()
        operator = Operator(gateway.url, secret)
        clients = [operator.enroll(name) for name in ("a", "b")]
        operator.close()
        assert gateway.end() == 0
    with hosted(folder) as http_client:
        ask = Events(http_client, secret, structured)
        ask("monitoring", "lease", None, {"gateway": "holder", "url": "http://holder", "seconds": 60.0})
        sessions = {joined(ask, client): client.client for client in clients}
        told = [ask("selection", "select", None, _selection())]
        digests = []
        for data in (b"plan", b"weights"):
            digests.append(storage.digest(data))
            place = ask("model-update", "offer", None, {"digest": digests[-1], "bytes": len(data)})
            assert http_client.put(place["url"], content=data).status_code == 201
        told.append(ask("model-update", "open", "r1", _round(told[-1]["cohort"], *digests)))
        outbox = ask("model-update", "dispatch", None, {"gateway": "holder"})
        assert outbox["ended"] == []
        messages = {sessions[each["session"]]: each["message"] for each in outbox["messages"]}
        for client in ("a", "b"):
            id = messages[client]["id"]
            told.append(messages[client])
            told.append(ask("model-update", "accept", client, {"assignment": id}))
            of = {"assignment": id, "digest": storage.digest(UPDATE), "bytes": len(UPDATE)}
            place = ask("aggregation", "upload", client, of)
            assert http_client.put(place["url"], content=UPDATE).status_code == 201
            told.append(ask("aggregation", "upload", client, of))
            report = {"assignment": id, "update": of["digest"], "seconds": 2.0}
            told.append(ask("aggregation", "report", client, report))
        told.append(ask("aggregation", "reports", "r1", {"after": 0}))
        closing = {"outcome": "committed", "losses": {"a": 0.5, "b": 0.25}}
        told.append(ask("aggregation", "close", "r1", closing))
        told.append(ask("triggering", "put", "often", TRIGGER))
        told.append(ask("triggering", "fire", "often"))
        told.append(ask("monitoring", "list"))
        for session in sessions:
            ask("monitoring", "disconnect", None, {"session": session})
        return told


def settled(told: Any) -> Any:
    """`told` without what differs from run to run."""
    if isinstance(told, dict):
        return {name: settled(each) for name, each in told.items() if not VOLATILE.match(name)}
    if isinstance(told, list):
        return [settled(each) for each in told]
    return told


def state(folder: Path) -> dict[str, Any]:
    """The registry in `folder`, without what differs from run to run."""
    kept = (
        "tenants",
        "clients",
        "datasets",
        "rounds",
        "work",
        "blobs",
        "triggers",
        "participation",
        "evaluations",
    )
    registry = Registry.open(f"sqlite:///{folder}/registry.db")

    def rows(connection: Connection) -> dict[str, Any]:
        found = {}
        for name in kept:
            table = metadata.tables[name]
            query = select(table).order_by(*table.primary_key.columns)
            found[name] = [settled(dict(row._mapping)) for row in connection.execute(query)]
        return found

    try:
        return registry.read(rows)
    finally:
        registry.close()


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
def test_the_same_calls_get_the_same_answers_and_leave_the_same_registry(
    tmp_path: Path, structured: bool, gateways_way: tuple[list[Any], dict[str, Any]]
) -> None:
    answers, left = gateways_way
    (tmp_path / "events").mkdir()
    assert json.dumps(settled(through_events(tmp_path / "events", structured))) == json.dumps(
        settled(answers)
    )
    assert state(tmp_path / "events") == left


@pytest.fixture(scope="module")
def gateways_way(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[str, Any]]:
    """Answers of the gateway, and the registry that it leaves."""
    folder = tmp_path_factory.mktemp("gateway")
    return through_the_gateway(folder), state(folder)


def test_a_ping_lets_a_function_do_what_it_does_by_the_clock(tmp_path: Path, admin: str) -> None:
    looked: list[float] = []
    with hosted(tmp_path, looked.append) as client:
        events = Events(client, admin, structured=False)
        for path, status in (("/monitoring", 200), ("/model-update", 200), ("/triggering", 200), ("/", 404)):
            response = events.send(path, "dev.knative.sources.ping", None, {})
            assert (path, response.status_code) == (path, status)
        assert len(looked) == 1


def test_an_event_that_comes_again_is_answered_under_the_same_id(tmp_path: Path, admin: str) -> None:
    with hosted(tmp_path) as client:
        events = Events(client, admin, structured=False)
        first, again = (
            events.send("/triggering", "dev.fededge.triggering.put", "often", TRIGGER, id="42")
            for _ in range(2)
        )
    assert first.headers["ce-id"] == again.headers["ce-id"] != "42"
    assert settled(first.json()) == settled(again.json())


def test_at_the_root_an_event_finds_its_function_by_its_type(tmp_path: Path, admin: str) -> None:
    with hosted(tmp_path) as client:
        response = Events(client, admin, structured=True).send(
            "/", "dev.fededge.aggregation.list", None, {"limit": 5}
        )
    assert response.json()["data"] == {"items": []}


def test_machines_ask_whether_it_is_ready(tmp_path: Path) -> None:
    with hosted(tmp_path) as client:
        assert client.get("/ready").json() == {"state": "ready"}
        assert "fededge_requests" in client.get("/metrics").text
