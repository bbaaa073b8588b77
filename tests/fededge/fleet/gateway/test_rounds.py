import asyncio
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fededge import storage
from fededge.fleet.gateway.bell import Bells
from fededge.fleet.registry.database import Registry
from fededge.protocol import digests
from tests.gateway_client import SCHEMA, Client, Operator, put, stored
from tests.gateway_process import Gateway, token

NUMBERS = itertools.count()
UPDATE = b"update"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Rounds are the same on each kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('database')}/registry.db"
        return
    server = request.getfixturevalue("postgres")
    server.execute("CREATE DATABASE rounds TEMPLATE template")
    yield server.url("rounds")
    server.execute("DROP DATABASE rounds WITH (FORCE)")


@pytest.fixture
def clients(admin: Operator) -> Iterator[list[Client]]:
    made = [admin.enroll(f"worker-{next(NUMBERS)}").join() for _ in range(2)]
    yield made
    for client in made:
        client.close()


@pytest.fixture
def round() -> str:
    return f"round-{next(NUMBERS)}"


def names(clients: list[Client]) -> list[str]:
    return [client.client for client in clients]


def accepted(client: Client) -> Any:
    """The assignment that a client hears next, once it accepted it."""
    assignment = client.hear()
    assert assignment.type == "assignment", assignment
    answer = client.ask({"type": "accept", "assignment": assignment.id})
    assert (answer.of, answer.outcome) == ("accept", "kept")
    return assignment


def uploaded(client: Client, assignment: Any, update: bytes = UPDATE) -> str:
    """Digest of the update that a client sent."""
    digest = storage.digest(update)
    request = {"type": "upload", "assignment": assignment.id, "digest": digest, "bytes": len(update)}
    place = client.ask(request)
    assert place.type == "place", place
    if not place.done:
        assert stored(place, update, client.url).status_code == 201
    return digest


def reported(client: Client, assignment: Any, **said: Any) -> Any:
    """What the gateway answers to a report."""
    return client.ask({"type": "report", "assignment": assignment.id, "seconds": 2.0, **said})


def test_a_round_from_selection_to_its_outcome(
    admin: Operator, clients: list[Client], round: str, gateway: Gateway
) -> None:
    request = {
        "task": "digits",
        "dataset": "digits",
        "framework": "keras",
        "schema_digest": SCHEMA,
        "size": 1000,
        "seed": 0,
        "number": 1,
    }
    selected = admin("POST", "/v1/selections", request)
    assert set(names(clients)) <= set(selected["cohort"])
    assert [client["client"] for client in selected["clients"]] == selected["cohort"]
    opened = admin.round(round, names(clients), order="signed", shares={clients[0].client: 0.5})
    assert (opened["state"], opened["waiting"]) == ("open", 2)
    first, second = (accepted(client) for client in clients)
    assert (first.order, first.share, second.share) == ("signed", 0.5, 1.0)
    assert 590 < first.seconds_left <= 600
    for part, data in ((first.plan, b"plan"), (first.weights, b"weights")):
        answer = admin.http.get(part.url)
        assert answer.content == data
        assert (part.digest, part.bytes) == (storage.digest(data), len(data))
    digest = uploaded(clients[0], first)
    assert reported(clients[0], first, update=digest).outcome == "kept"
    reports = admin("GET", f"/v1/rounds/{round}/reports", params={"wait": 20})
    assert reports["open"]
    assert "status" not in reports
    assert [item["client"] for item in reports["items"]] == [clients[0].client]
    assert admin.http.get(reports["items"][0]["url"]).content == UPDATE
    assert reported(clients[1], second, failure="no space").outcome == "kept"
    reports = admin("GET", f"/v1/rounds/{round}/reports", params={"after": 1, "wait": 20})
    assert (reports["open"], reports["items"][0]["failure"]) == (False, "no space")
    assert reports["status"] == admin("GET", f"/v1/rounds/{round}")
    told = admin("POST", f"/v1/rounds/{round}/close", {"outcome": "committed"})
    assert (told["outcome"], told["reported"], told["failed"]) == ("committed", 1, 1)
    assert (told["bytes_up"], told["bytes_down"]) == (6, 11)


def test_opening_a_round_again_answers_how_it_stands(
    admin: Operator, clients: list[Client], round: str
) -> None:
    admin.round(round, names(clients))
    again = admin.round(round, names(clients[:1]), goal=1)
    assert (again["cohort"], again["goal"]) == (names(clients), 2)


def test_an_assignment_is_sent_again_until_it_is_accepted(
    admin: Operator, clients: list[Client], round: str
) -> None:
    admin.round(round, names(clients[:1]))
    first = clients[0].hear()
    assert clients[0].hear(30).id == first.id
    queue = admin("GET", f"/v1/rounds/{round}/queue")["items"]
    assert (queue[0]["state"], queue[0]["attempts"]) == ("sent", 2)
    answer = clients[0].ask({"type": "accept", "assignment": first.id})
    assert (answer.outcome, admin("GET", f"/v1/rounds/{round}/queue")["items"][0]["state"]) == (
        "kept",
        "accepted",
    )


def test_a_declined_assignment_counts_as_failed(admin: Operator, clients: list[Client], round: str) -> None:
    admin.round(round, names(clients[:1]))
    assignment = clients[0].hear()
    message = {"type": "decline", "assignment": assignment.id, "reason": "not today"}
    for _ in range(2):
        answer = clients[0].ask(message)
        assert (answer.of, answer.outcome) == ("decline", "kept")
    assert admin("GET", f"/v1/rounds/{round}")["failures"] == {clients[0].client: "not today"}


def test_a_report_counts_once_however_often_it_is_sent(
    admin: Operator, clients: list[Client], round: str
) -> None:
    admin.round(round, names(clients))
    assignment = accepted(clients[0])
    digest = uploaded(clients[0], assignment)
    for _ in range(3):
        assert reported(clients[0], assignment, update=digest).outcome == "kept"
    assert len(admin("GET", f"/v1/rounds/{round}/reports")["items"]) == 1


def test_who_works_when_the_goal_is_reached_is_canceled_and_late(
    admin: Operator, clients: list[Client], round: str
) -> None:
    admin.round(round, names(clients), goal=1)
    fast, slow = (accepted(client) for client in clients)
    assert reported(clients[0], fast, update=uploaded(clients[0], fast)).outcome == "kept"
    cancel = clients[1].hear()
    assert (cancel.type, cancel.assignment) == ("cancel", slow.id)
    digest = storage.digest(UPDATE)
    assert reported(clients[1], slow, update=digest).outcome == "late"
    answer = clients[1].ask({"type": "upload", "assignment": slow.id, "digest": digest, "bytes": 6})
    assert (answer.of, answer.outcome, answer.assignment) == ("report", "late", slow.id)
    assert reported(clients[1], slow, failure="late anyway").outcome == "late"
    assert admin("GET", f"/v1/rounds/{round}")["reported"] == 1


def test_a_round_ends_at_its_deadline(admin: Operator, clients: list[Client], round: str) -> None:
    admin.round(round, names(clients[:1]), seconds=1.0)
    assignment = accepted(clients[0])
    cancel = clients[0].hear()
    assert (cancel.type, cancel.assignment) == ("cancel", assignment.id)
    status = admin("GET", f"/v1/rounds/{round}")
    assert (status["state"], status["failed"], status["reported"]) == ("closed", 1, 0)


def test_clients_of_a_round_that_its_coordinator_closes_are_canceled(
    admin: Operator, clients: list[Client], round: str
) -> None:
    admin.round(round, names(clients[:1]))
    accepted(clients[0])
    admin("POST", f"/v1/rounds/{round}/close", {"outcome": "failed", "reason": "killed"})
    assert clients[0].hear().type == "cancel"


def test_what_was_not_asked_for_is_refused(admin: Operator, clients: list[Client], round: str) -> None:
    admin.round(round, names(clients))
    assignment = accepted(clients[0])
    wrong_size = {"digest": storage.digest(b"large"), "bytes": 5}
    answer = clients[0].ask({"type": "upload", "assignment": assignment.id, **wrong_size})
    assert (answer.of, answer.outcome) == ("report", "refused")
    assert "an update of 5 bytes, where this model's have 6" in answer.message
    assert reported(clients[0], assignment, update=storage.digest(b"absent")).outcome == "refused"
    assert reported(clients[0], assignment, counts={"loss": 1.0}).outcome == "refused"
    assert reported(clients[0], assignment).outcome == "refused"


def test_an_update_goes_to_the_place_that_came_with_the_assignment(
    admin: Operator, clients: list[Client], round: str, gateway: Gateway
) -> None:
    admin.round(round, names(clients), goal=1)
    first, second = (accepted(client) for client in clients)
    untold = admin.http.put(first.upload, content=UPDATE)
    assert (untold.status_code, untold.json()["reason"]) == (400, "MALFORMED")
    told = {digests.HEADER: digests.to_header(storage.digest(b"others"))}
    other = admin.http.put(first.upload, content=UPDATE, headers=told)
    assert (other.status_code, other.json()["reason"]) == (422, "DIGEST")
    assert put(first.upload, UPDATE, gateway.url).status_code == 201
    digest = storage.digest(UPDATE)
    request = {"type": "upload", "assignment": first.id, "digest": digest, "bytes": len(UPDATE)}
    assert clients[0].ask(request).done
    assert reported(clients[0], first, update=digest).outcome == "kept"
    assert clients[1].hear().type == "cancel"
    late = put(second.upload, UPDATE, gateway.url)
    assert (late.status_code, late.json()["reason"]) == (409, "LATE")
    assert reported(clients[1], second, update=digest).outcome == "late"


def test_evaluations_report_counts(admin: Operator, clients: list[Client], round: str) -> None:
    admin.round(round, names(clients[:1]), kind="evaluate", update_bytes=None)
    assignment = accepted(clients[0])
    assert assignment.upload is None
    assert reported(clients[0], assignment, counts={"correct": 7.0, "examples": 9.0}).outcome == "kept"
    items = admin("GET", f"/v1/rounds/{round}/reports")["items"]
    assert items[0]["counts"] == {"correct": 7.0, "examples": 9.0}
    assert "url" not in items[0]


def test_waiting_for_reports_ends_with_the_first(admin: Operator, clients: list[Client], round: str) -> None:
    admin.round(round, names(clients), kind="evaluate", update_bytes=None)
    assignment = accepted(clients[0])
    with ThreadPoolExecutor(1) as pool:
        path, wait = f"/v1/rounds/{round}/reports", {"wait": 60}
        waiting = pool.submit(admin, "GET", path, params=wait)
        assert reported(clients[0], assignment, counts={"examples": 1.0}).outcome == "kept"
        assert len(waiting.result(50)["items"]) == 1


def test_a_report_is_told_of_at_once_and_to_those_alone_who_wait_for_its_round() -> None:
    async def scenario() -> None:
        bells = Bells()
        ours, theirs = bells.listen(("tenant", "ours")), bells.listen(("tenant", "theirs"))
        assert bells.listen(("tenant", "ours")) is ours
        bells.ring(("tenant", "ours"))
        bells.ring(("tenant", "nobody's"))
        assert (ours.is_set(), theirs.is_set()) == (True, False)
        assert not bells.listen(("tenant", "ours")).is_set()

    asyncio.run(scenario())


def test_a_wait_without_reports_ends_in_time(admin: Operator, clients: list[Client], round: str) -> None:
    admin.round(round, names(clients))
    assert admin("GET", f"/v1/rounds/{round}/reports", params={"wait": 0.3}) == {"items": [], "open": True}


def test_work_goes_to_who_connects_later(admin: Operator, clients: list[Client], round: str) -> None:
    client = admin.enroll(f"later-{round}")
    admin.round(round, [client.client])
    assert client.join().hear().type == "assignment"
    client.close()


def test_a_client_that_comes_back_goes_on_with_its_work(
    admin: Operator, clients: list[Client], round: str
) -> None:
    admin.round(round, names(clients))
    assignment = accepted(clients[0])
    forgotten = accepted(clients[1])
    clients[0].join(resume=clients[0].session, working=[assignment.id])
    assert reported(clients[0], assignment, update=uploaded(clients[0], assignment)).outcome == "kept"
    clients[1].join()
    assert clients[1].hear().id == forgotten.id


def test_the_trace_of_a_request_comes_with_its_assignments(
    admin: Operator, clients: list[Client], round: str
) -> None:
    trace = f"00-{'a1' * 16}-{'b2' * 8}-01"
    admin.http.headers["traceparent"] = trace
    try:
        admin.round(round, names(clients[:1]))
    finally:
        del admin.http.headers["traceparent"]
    assert clients[0].hear().trace.split("-")[:2] == trace.split("-")[:2]


@pytest.mark.slow
def test_who_stays_silent_is_moved_aside(tmp_path: Path, until: Any) -> None:
    with Gateway.start(tmp_path) as gateway:
        registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
        admin = Operator(gateway.url, token(registry))
        client = admin.enroll("silent").join()
        admin.round("r", ["silent"])

        def over() -> bool:
            client.say({"type": "heartbeat"})  # it is there, and says nothing of its work
            time.sleep(1.0)
            return bool(admin("GET", "/v1/rounds/r")["state"] == "closed")

        until(over)
        client.close()
        assert "did not answer" in admin("GET", "/v1/rounds/r")["failures"]["silent"]
        admin.close()
        registry.close()


def test_many_reports_at_once_are_all_kept_in_order(admin: Operator, round: str) -> None:
    many = [admin.enroll(f"many-{next(NUMBERS)}").join() for _ in range(30)]
    admin.round(round, names(many), kind="evaluate", update_bytes=None)
    assignments = [accepted(client) for client in many]

    def report(pair: tuple[Client, Any]) -> str:
        client, assignment = pair
        return str(reported(client, assignment, counts={"examples": 1.0}).outcome)

    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(report, zip(many, assignments, strict=True))) == {"kept"}
    items = admin("GET", f"/v1/rounds/{round}/reports")["items"]
    assert [item["ordinal"] for item in items] == list(range(1, 31))
    assert {item["client"] for item in items} == set(names(many))
    for client in many:
        client.close()
