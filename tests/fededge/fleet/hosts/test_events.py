"""The gateway's functions as CloudEvents services: the same answers and the same registry as the gateway's."""

import json
from pathlib import Path
from typing import Any

import pytest

from fededge import storage
from fededge.fleet.registry.database import Registry
from tests.events_host import Events, hosted, joined
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token
from tests.whole_round import (
    TRIGGER,
    UPDATE,
    round_request,
    selection_request,
    settled,
    state,
    through_the_gateway,
)


@pytest.fixture
def admin(tmp_path: Path) -> str:
    """An administrator's token, of a registry in `tmp_path`."""
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    try:
        return token(registry)
    finally:
        registry.close()


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
        told = [ask("selection", "select", None, selection_request())]
        digests = []
        for data in (b"plan", b"weights"):
            digests.append(storage.digest(data))
            place = ask("model-update", "offer", None, {"digest": digests[-1], "bytes": len(data)})
            assert http_client.put(place["url"], content=data).status_code == 201
        told.append(ask("model-update", "open", "r1", round_request(told[-1]["cohort"], *digests)))
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
