"""Several gateways on one registry, and what becomes of a round when one of them is killed or drained."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from fededge import storage
from fededge.fleet.registry.database import Registry
from tests.gateway_client import Client, Operator, stored
from tests.gateway_process import Gateway, token

UPDATE = b"update"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Gateway, Gateway]]:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(Gateway.start(tmp_path, lease_seconds=1.5, heartbeat_seconds=5.0))
            for _ in range(2)
        )
        yield first, second


@pytest.fixture
def admins(pair: tuple[Gateway, Gateway], tmp_path: Path) -> Iterator[tuple[Operator, Operator]]:
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    secret = token(registry)
    registry.close()
    made = tuple(Operator(gateway.url, secret) for gateway in pair)
    yield made[0], made[1]
    for operator in made:
        operator.close()


def work(client: Client, url: str, assignment: Any) -> Any:
    """Upload and report."""
    digest = storage.digest(UPDATE)
    told = {"assignment": assignment.id}
    place = client.ask({"type": "upload", "digest": digest, "bytes": len(UPDATE), **told})
    if not place.done:
        assert stored(place, UPDATE, url).status_code == 201
    return client.ask({"type": "report", "update": digest, "seconds": 1.0, **told})


def accept(client: Client) -> Any:
    assignment = client.hear()
    assert assignment.type == "assignment", assignment
    assert client.ask({"type": "accept", "assignment": assignment.id}).outcome == "kept"
    return assignment


def test_two_gateways_serve_one_round(
    pair: tuple[Gateway, Gateway], admins: tuple[Operator, Operator]
) -> None:
    first, second = (admin.enroll(name).join() for admin, name in zip(admins, ("one", "two"), strict=True))
    admins[0].round("r", ["one", "two"])
    for client, gateway in ((first, pair[0]), (second, pair[1])):
        assert work(client, gateway.url, accept(client)).outcome == "kept"
    for admin in admins:
        reports = admin("GET", "/v1/rounds/r/reports")
        assert [item["client"] for item in reports["items"]] == ["one", "two"]
        assert admin.http.get(reports["items"][1]["url"]).content == UPDATE
    first.close()
    second.close()


def test_a_gateway_that_is_killed_in_a_round_loses_nothing(
    pair: tuple[Gateway, Gateway], admins: tuple[Operator, Operator], until: Any
) -> None:
    names = [f"site-{number}" for number in range(4)]
    clients = [admins[0].enroll(name).join() for name in names]
    admins[0].round("r", names)
    assignments = [accept(client) for client in clients[:3]]
    unread = clients[3]
    assert work(clients[0], pair[0].url, assignments[0]).outcome == "kept"
    half = storage.digest(UPDATE)
    place = clients[1].ask({"type": "upload", "assignment": assignments[1].id, "digest": half, "bytes": 6})
    answer = admins[0].http.put(place.url, content=UPDATE[:4], headers={"content-range": "bytes 0-3/6"})
    assert answer.headers["upload-offset"] == "4"
    assert pair[0].end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not any(client["connected"] for client in admins[1]("GET", "/v1/clients")["items"]))
    assert len(admins[1]("GET", "/v1/rounds/r/reports")["items"]) == 1
    for client in clients:
        client.url = pair[1].url
    digest = storage.digest(UPDATE)
    clients[0].join(resume=clients[0].session)
    again = {"type": "report", "assignment": assignments[0].id, "update": digest, "seconds": 1.0}
    assert clients[0].ask(again).outcome == "kept"
    clients[1].join(resume=clients[1].session, working=[assignments[1].id])
    place = clients[1].ask({"type": "upload", "assignment": assignments[1].id, "digest": half, "bytes": 6})
    assert place.offset == 4
    rest = {"content-range": "bytes 4-5/6"}
    assert admins[1].http.put(place.url, content=UPDATE[4:], headers=rest).status_code == 201
    assert clients[1].ask({**again, "assignment": assignments[1].id}).outcome == "kept"
    clients[2].join(working=[assignments[2].id])
    assert work(clients[2], pair[1].url, assignments[2]).outcome == "kept"
    unread.join()
    assert work(unread, pair[1].url, accept(unread)).outcome == "kept"
    reports = admins[1]("GET", "/v1/rounds/r/reports")
    assert sorted(item["client"] for item in reports["items"]) == names
    assert [item["ordinal"] for item in reports["items"]] == [1, 2, 3, 4]
    assert not reports["open"]
    for client in clients:
        client.close()


def test_what_was_answered_as_kept_survives_a_kill(
    pair: tuple[Gateway, Gateway], admins: tuple[Operator, Operator]
) -> None:
    """Reports race with the kill: each that was answered is there afterwards."""
    names = [f"racer-{number}" for number in range(20)]
    clients = [admins[0].enroll(name).join() for name in names]
    admins[0].round("r", names, kind="evaluate", update_bytes=None)
    assignments = [accept(client) for client in clients]

    def report(pair: tuple[Client, Any]) -> str | None:
        client, assignment = pair
        message = {"type": "report", "assignment": assignment.id, "counts": {"examples": 1.0}}
        try:
            return client.client if client.ask(message).outcome == "kept" else None
        except ConnectionClosed:
            return None

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(report, each) for each in zip(clients, assignments, strict=True)]
        answers[0].result()
        pair[0].end(signal.SIGKILL)
        kept = {name for answer in answers if (name := answer.result())}
    assert kept
    there = {item["client"] for item in admins[1]("GET", "/v1/rounds/r/reports")["items"]}
    assert kept <= there


def test_a_gateway_drains_on_sigterm(
    pair: tuple[Gateway, Gateway], admins: tuple[Operator, Operator]
) -> None:
    clients = [admins[0].enroll(f"site-{number}").join() for number in range(3)]
    admins[0].round("r", ["site-0", "site-1"])
    accept(clients[0])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(admins[0], "GET", "/v1/rounds/r/reports", params={"wait": 60})
        accept(clients[1])
        assert pair[0].end() == 0
        assert waiting.result(30) == {"items": [], "open": True}
    for client in clients:
        bye = client.hear()
        assert (bye.type, bye.reason) == ("bye", "DRAINING")
        assert bye.retry_seconds >= 0
    assert pair[0].events("ended")
    assert not any(client["connected"] for client in admins[1]("GET", "/v1/clients")["items"])
    clients[0].url = pair[1].url
    clients[0].join(resume=clients[0].session)
    clients[0].close()
