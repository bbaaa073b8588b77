"""Reports are kept in order, each once, until a round has what it needs."""

from collections.abc import Callable
from typing import Any

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, blobs, enrollment, model_update
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import CloseRequest, Received, ReportMessage, UploadRequest
from tests.registries import (
    GATEWAY,
    NOW,
    TENANT,
    UPDATE,
    UPDATE_BYTES,
    WEIGHTS,
    at_once,
    make_fleet,
    open_round,
    sent,
)


def report(
    registry: Registry, client: str, assignment: str, now: float = NOW + 10.0, **said: object
) -> Received:
    content = {"update": UPDATE, "seconds": 10.0} | said
    message = ReportMessage.model_validate({"assignment": assignment, **content})
    return aggregation.report(registry, TENANT, client, message, now).answer


def states(registry: Registry) -> dict[str, str]:
    return {item.client: item.state for item in aggregation.queue(registry, TENANT, "r1").items}


def test_reports_are_numbered_in_the_order_of_arrival(registry: Registry) -> None:
    make_fleet(registry, "abc")
    open_round(registry, "abc")
    due = sent(registry)
    assert report(registry, "b", due["b"].assignment).outcome == "kept"
    assert report(registry, "a", due["a"].assignment, update=None, failure="no power").outcome == "kept"
    found = aggregation.reports(registry, TENANT, "r1", 0)
    assert [(each.ordinal, each.client, each.update, each.failure) for each in found.items] == [
        (1, "b", UPDATE, None),
        (2, "a", None, "no power"),
    ]
    assert found.open
    assert [each.ordinal for each in aggregation.reports(registry, TENANT, "r1", 1).items] == [2]
    status = aggregation.status(registry, TENANT, "r1")
    assert (status.reported, status.failed, status.waiting) == (1, 1, 1)
    assert (status.client_seconds, status.failures) == (20.0, {"a": "no power"})


def test_the_last_report_closes_the_round(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    due = sent(registry)
    report(registry, "a", due["a"].assignment)
    report(registry, "b", due["b"].assignment, update=None, failure="no power")
    status = aggregation.status(registry, TENANT, "r1")
    assert (status.state, status.closed, status.outcome) == ("closed", NOW + 10.0, None)
    assert not aggregation.reports(registry, TENANT, "r1", 2).open


def test_the_goal_closes_the_round_and_cancels_the_rest(registry: Registry) -> None:
    sessions = make_fleet(registry, "abcd")
    open_round(registry, "abcd", goal=2)
    due = sent(registry)
    report(registry, "a", due["a"].assignment)
    report(registry, "b", due["b"].assignment, update=None, failure="no power")
    assert aggregation.status(registry, TENANT, "r1").state == "open"
    report(registry, "c", due["c"].assignment)
    status = aggregation.status(registry, TENANT, "r1")
    assert (status.state, status.reported, status.failed, status.waiting) == ("closed", 2, 1, 0)
    assert states(registry) == {"a": "reported", "b": "failed", "c": "reported", "d": "canceled"}
    assert "d" not in status.failures
    told = model_update.cancels(registry, GATEWAY, NOW + 10.0)
    assert told == [(sessions["d"], due["d"].assignment)]
    assert report(registry, "d", due["d"].assignment).outcome == "late"
    assert len(aggregation.reports(registry, TENANT, "r1", 0).items) == 3


def test_a_repeated_report_is_kept_and_not_counted_again(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    due = sent(registry)
    for _ in range(3):
        assert report(registry, "a", due["a"].assignment).outcome == "kept"
    assert report(registry, "a", due["a"].assignment, update=None, failure="no").outcome == "kept"
    (kept,) = aggregation.reports(registry, TENANT, "r1", 0).items
    assert kept.update == UPDATE


def test_a_report_of_another_clients_work_is_refused(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    due = sent(registry)
    assert report(registry, "b", due["a"].assignment).outcome == "refused"
    assert report(registry, "a", "made-up").outcome == "refused"
    assert aggregation.reports(registry, TENANT, "r1", 0).items == []


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        ("train", {"update": None}, "nothing"),
        ("train", {"update": None, "counts": {"correct": 1.0}}, "counts"),
        ("train", {"counts": {"correct": 1.0}}, "update and counts"),
        ("train", {"failure": "and yet"}, "update and failure"),
        ("train", {"update": f"sha256:{'0' * 64}"}, "not stored"),
        ("train", {"update": f"sha256:{'e' * 64}"}, "99 bytes"),
        ("train", {"update": f"sha256:{'f' * 64}"}, "not stored"),  # b's
        ("train", {"update": WEIGHTS}, "not stored"),
        ("evaluate", {}, "asked for counts, and got update"),
        ("ranges", {"update": None, "counts": {}}, "asked for ranges, and got counts"),
    ],
)
def test_a_report_of_something_else_is_refused_and_may_be_made_good(
    registry: Registry, kind: str, said: dict[str, Any], why: str
) -> None:
    make_fleet(registry, "ab")
    blobs.stored(registry, TENANT, f"sha256:{'e' * 64}", 99, NOW, "a")
    blobs.stored(registry, TENANT, f"sha256:{'f' * 64}", UPDATE_BYTES, NOW, "b")
    open_round(registry, "ab", kind=kind)
    assignment = sent(registry)["a"].assignment
    refused = report(registry, "a", assignment, **said)
    assert refused.outcome == "refused"
    assert why in refused.message
    assert report(registry, "a", assignment, update=None, failure="sorry").outcome == "kept"


def test_counts_and_ranges_are_handed_on_as_they_came(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "a", "e", kind="evaluate")
    open_round(registry, "b", "q", kind="ranges")
    due = sent(registry)
    counts, ranges = {"correct": 3.5, "examples": 1e-300}, {"input": [[-1.0, 2.5]], "é\0": None}
    assert report(registry, "a", due["a"].assignment, update=None, counts=counts).outcome == "kept"
    assert report(registry, "b", due["b"].assignment, update=None, ranges=ranges).outcome == "kept"
    assert aggregation.reports(registry, TENANT, "e", 0).items[0].counts == counts
    assert aggregation.reports(registry, TENANT, "q", 0).items[0].ranges == ranges


def test_a_report_after_the_deadline_is_late_even_if_nobody_closed_the_round_yet(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    due = sent(registry)
    assert report(registry, "a", due["a"].assignment, NOW + 600.0).outcome == "late"
    assert aggregation.status(registry, TENANT, "r1").state == "closed"
    assert states(registry) == {"a": "late", "b": "late"}


def test_who_declined_does_not_report(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    due = sent(registry)
    model_update.decline(registry, TENANT, "a", due["a"].assignment, "no", NOW)
    assert report(registry, "a", due["a"].assignment).outcome == "refused"
    report(registry, "b", due["b"].assignment)
    assert model_update.decline(registry, TENANT, "b", due["b"].assignment, "no", NOW).outcome == "refused"


def test_reports_of_many_at_once_have_ordinals_without_gaps(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened()]
    clients = [f"c{n:02}" for n in range(24)]
    make_fleet(registries[0], clients)
    open_round(registries[0], clients, goal=20)
    due = sent(registries[0])
    answers = at_once(
        [
            lambda n=n, client=client: report(registries[n % 2], client, due[client].assignment)  # type: ignore[misc]
            for n, client in enumerate(clients * 2)  # each client twice
        ]
    )
    assert [each for each in answers if isinstance(each, Exception)] == []
    found = aggregation.reports(registries[0], TENANT, "r1", 0)
    assert [each.ordinal for each in found.items] == list(range(1, 21))
    assert len({each.client for each in found.items}) == 20
    outcomes = [each.outcome for each in answers if isinstance(each, Received)]
    assert (outcomes.count("kept"), outcomes.count("late")) == (40, 8)
    status = aggregation.status(registries[0], TENANT, "r1")
    assert (status.state, status.reported, status.failed) == ("closed", 20, 0)
    assert status.client_seconds == 200.0


def test_an_upload_is_expected_while_its_round_waits_for_it(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    open_round(registry, "b", "e", kind="evaluate", update_bytes=None)
    due = sent(registry)
    upload = UploadRequest(assignment=due["a"].assignment, digest=UPDATE, bytes=UPDATE_BYTES)
    aggregation.expected(registry, TENANT, "a", upload, NOW)
    evaluation = next(item for item in aggregation.queue(registry, TENANT, "e").items)

    def refused(client: str, now: float = NOW, **changes: object) -> tuple[str, int]:
        with pytest.raises(GatewayError) as error:
            aggregation.expected(registry, TENANT, client, upload.model_copy(update=changes), now)
        return error.value.reason, error.value.status

    assert refused("b") == ("NO_ASSIGNMENT", 404)
    assert refused("a", assignment="made-up") == ("NO_ASSIGNMENT", 404)
    assert refused("a", bytes=UPDATE_BYTES + 1) == ("SIZE", 413)
    assert refused("a", now=NOW + 600.0) == ("LATE", 409)
    assert refused("b", assignment=evaluation.assignment) == ("NO_UPDATE", 400)
    report(registry, "a", due["a"].assignment)
    assert refused("a") == ("LATE", 409)


def test_a_coordinator_closes_its_round_and_tells_what_came_of_it_once(registry: Registry) -> None:
    make_fleet(registry, "ab")
    open_round(registry, "ab")
    sent(registry)
    closed = aggregation.close(registry, TENANT, "r1", CloseRequest(), NOW + 1.0)
    assert (closed.state, closed.outcome, closed.closed) == ("closed", None, NOW + 1.0)
    assert aggregation.close(registry, TENANT, "r1", CloseRequest(), NOW + 2.0) == closed
    told = CloseRequest(outcome="failed", reason="diverged")
    for _ in range(2):
        status = aggregation.close(registry, TENANT, "r1", told, NOW + 3.0, actor="ci")
        assert (status.outcome, status.reason, status.closed) == ("failed", "diverged", NOW + 1.0)
    assert aggregation.close(registry, TENANT, "r1", CloseRequest(), NOW + 4.0).outcome == "failed"
    with pytest.raises(GatewayError, match="failed already") as refused:
        aggregation.close(registry, TENANT, "r1", CloseRequest(outcome="committed"), NOW)
    assert refused.value.status == 409
    lines = [line for line in audit.listing(registry, TENANT).items if line.action == "round.close"]
    assert [(line.actor, line.details["outcome"]) for line in lines] == [
        ("coordinator", None),
        ("ci", "failed"),
    ]


def test_a_committed_round_counts_for_those_whose_update_it_had(registry: Registry) -> None:
    make_fleet(registry, "abc")
    for number, seconds in ((1, 10.0), (2, 40.0)):
        round = f"r{number}"
        open_round(registry, "abc", round, number=number, shares={"b": 0.5})
        due = sent(registry)
        for client in "ab":
            report(registry, client, due[client].assignment, seconds=seconds)
        report(registry, "c", due["c"].assignment, update=None, failure="no power")
        for _ in range(2):
            aggregation.close(registry, TENANT, round, CloseRequest(outcome="committed"), NOW + number)
    open_round(registry, "abc", "r3")
    report(registry, "a", sent(registry)["a"].assignment)
    aggregation.close(registry, TENANT, "r3", CloseRequest(outcome="failed"), NOW + 9.0)
    infos = {each.client: each for each in enrollment.listing(registry, TENANT, NOW).items}
    # 100 examples: 10 a second, then 2.5; halves of each round
    assert (infos["a"].rounds, infos["a"].last_round, infos["a"].speed) == (2, NOW + 2.0, 6.25)
    assert infos["b"].speed == 3.125
    assert (infos["c"].rounds, infos["c"].last_round, infos["c"].speed) == (0, None, None)


def test_bytes_are_counted_for_the_round(registry: Registry) -> None:
    make_fleet(registry, "a")
    open_round(registry, "a")
    due = sent(registry)["a"]
    upload = UploadRequest(assignment=due.assignment, digest=UPDATE, bytes=UPDATE_BYTES)
    assert due.round == aggregation.expected(registry, TENANT, "a", upload, NOW) == "r1"
    aggregation.moved(registry, TENANT, "r1", down=1000)
    aggregation.moved(registry, TENANT, "r1", up=7)
    aggregation.moved(registry, TENANT, "r1", down=1)
    aggregation.moved(registry, "other", "r1", down=1)
    status = aggregation.status(registry, TENANT, "r1")
    assert (status.bytes_down, status.bytes_up) == (1001, 7)


def test_rounds_are_listed_by_task_and_state(registry: Registry) -> None:
    make_fleet(registry, "a")
    for number in range(5):
        open_round(registry, "a", f"r{number}", task="tumors" if number % 2 else "bones")
    aggregation.close(registry, TENANT, "r1", CloseRequest(outcome="failed"), NOW)

    def names(**asked: object) -> list[str]:
        return [each.round for each in aggregation.rounds(registry, TENANT, **asked).items]  # type: ignore[arg-type]

    assert names() == ["r0", "r1", "r2", "r3", "r4"]
    assert names(task="tumors") == ["r1", "r3"]
    assert names(task="tumors", state="open") == ["r3"]
    assert aggregation.rounds(registry, TENANT, limit=2).next == "r1"
    assert names(after="r1", limit=2) == ["r2", "r3"]


def test_a_long_list_of_reports_comes_in_parts_that_say_so(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "LARGEST", 2)
    make_fleet(registry, "abc")
    open_round(registry, "abc")
    for client, each in sent(registry).items():
        report(registry, client, each.assignment)
    first = aggregation.reports(registry, TENANT, "r1", 0)
    assert (len(first.items), first.open) == (2, True)
    rest = aggregation.reports(registry, TENANT, "r1", 2)
    assert (len(rest.items), rest.open) == (1, False)


def test_a_round_that_is_not_there_is_not_found(registry: Registry) -> None:
    make_fleet(registry, "")
    for attempt in (
        lambda: aggregation.status(registry, TENANT, "none"),
        lambda: aggregation.reports(registry, TENANT, "none", 0),
        lambda: aggregation.queue(registry, TENANT, "none"),
        lambda: aggregation.close(registry, TENANT, "none", CloseRequest(), NOW),
    ):
        with pytest.raises(GatewayError) as refused:
            attempt()
        assert (refused.value.reason, refused.value.status) == ("NO_ROUND", 404)
