"""Rounds are opened once; each assignment is sent until it is accepted, declined, given up or over."""

from typing import Any

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, enrollment, model_update, monitoring
from fededge.fleet.functions.model_update import FIRST_WAIT, TRIES
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import CloseRequest, QueueItem
from tests.registries import (
    GATEWAY,
    NOW,
    PLAN,
    TENANT,
    UPDATE_BYTES,
    WEIGHTS,
    at_once,
    connect,
    enroll,
    make_fleet,
    make_tenant,
    open_round,
    round_request,
    sent,
)


def item(registry: Registry, client: str = "a", round: str = "r1") -> QueueItem:
    return {each.client: each for each in aggregation.queue(registry, TENANT, round).items}[client]


def test_a_round_is_opened_once(registry: Registry) -> None:
    make_fleet(registry, ["a", "b", "c"])
    status = open_round(registry, ["b", "a"], goal=1)
    assert (status.cohort, status.goal, status.waiting, status.state) == (["a", "b"], 1, 2, "open")
    assert (status.opened, status.deadline) == (NOW, NOW + 600.0)
    assert open_round(registry, ["c"], seconds=5.0) == status
    assert [entry.action for entry in audit.listing(registry, TENANT).items].count("round.open") == 1


@pytest.mark.parametrize(
    ("cohort", "changes", "reason", "status"),
    [
        (["a", "a"], {}, "COHORT", 400),
        (["a"], {"goal": 2}, "COHORT", 400),
        (["a", "nobody"], {}, "NO_CLIENT", 400),
        (["a"], {"plan": f"sha256:{'0' * 64}"}, "NO_BLOB", 409),
        (["a"], {"weights": f"sha256:{'0' * 64}"}, "NO_BLOB", 409),
    ],
)
def test_a_round_that_cannot_be_is_refused_and_leaves_nothing(
    registry: Registry, cohort: list[str], changes: dict[str, Any], reason: str, status: int
) -> None:
    make_fleet(registry, ["a"])
    with pytest.raises(GatewayError) as refused:
        open_round(registry, cohort, **changes)
    assert (refused.value.reason, refused.value.status) == (reason, status)
    assert aggregation.rounds(registry, TENANT).items == []
    assert sent(registry) == {}


def test_a_tenant_has_no_more_rounds_open_than_its_quota(registry: Registry) -> None:
    make_fleet(registry, ["a"])
    make_tenant(registry, open_rounds=1)
    open_round(registry, ["a"])
    open_round(registry, ["a"])
    with pytest.raises(GatewayError) as refused:
        open_round(registry, ["a"], "r2")
    assert (refused.value.reason, refused.value.status) == ("QUOTA", 429)
    aggregation.close(registry, TENANT, "r1", CloseRequest(outcome="failed"), NOW)
    assert open_round(registry, ["a"], "r2").state == "open"


def test_a_client_revoked_since_it_was_selected_counts_as_failed(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    enrollment.revoke(registry, TENANT, "b", "admin", NOW)
    status = open_round(registry, ["a", "b"])
    assert (status.failed, status.waiting, status.failures) == (1, 1, {"b": "it was revoked"})
    assert open_round(registry, ["b"], "r2").state == "closed"


def test_work_is_handed_to_the_gateway_with_the_clients_session(registry: Registry) -> None:
    sessions = make_fleet(registry, ["a"])
    enroll(registry, "b")  # not connected
    open_round(registry, ["a", "b"], shares={"a": 0.5})
    assert sent(registry, gateway="gateway-2") == {}
    due = sent(registry, NOW + 10.0)
    assert list(due) == ["a"]
    assert (due["a"].session, due["a"].tenant, due["a"].order) == (sessions["a"], TENANT, "signed")
    assert (due["a"].plan, due["a"].weights) == (PLAN, WEIGHTS)
    assert (due["a"].plan_bytes, due["a"].weights_bytes) == (UPDATE_BYTES, UPDATE_BYTES)
    assert (due["a"].seconds_left, due["a"].share) == (590.0, 0.5)
    connect(registry, "b")
    assert list(sent(registry, NOW + 10.0)) == ["b"]


def test_an_assignment_does_not_wait_for_a_clock_that_was_set_back(registry: Registry) -> None:
    make_fleet(registry, ["a"])
    open_round(registry, ["a"])
    assert len(model_update.due(registry, GATEWAY, NOW)) == 1
    assert model_update.set_right(registry, GATEWAY, NOW) == 0
    back = NOW - 3600.0
    assert model_update.due(registry, GATEWAY, back) == []
    assert model_update.set_right(registry, GATEWAY, back) == 1
    assert len(model_update.due(registry, GATEWAY, back)) == 1


def test_an_assignment_is_sent_again_later_and_later_then_moved_aside(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    open_round(registry, ["a", "b"], seconds=10_000.0)
    now, waits = NOW, []
    for attempt in range(1, TRIES + 1):
        assert set(sent(registry, now)) == {"a", "b"}
        state = item(registry)
        assert (state.state, state.attempts) == ("sent", attempt)
        assert state.next_try is not None
        waits.append(state.next_try - now)
        assert sent(registry, now + FIRST_WAIT * 2 ** (attempt - 1) * 0.49) == {}
        now += 2**attempt * FIRST_WAIT
    for attempt, wait in enumerate(waits):
        assert 0.5 <= wait / (FIRST_WAIT * 2**attempt) < 1.5
    model_update.accept(registry, TENANT, "b", item(registry, "b").assignment, now)
    assert sent(registry, now) == {}
    assert item(registry).state == "aside"
    assert item(registry, "b").state == "accepted"
    (given_up,) = aggregation.reports(registry, TENANT, "r1", 0).items
    assert (given_up.ordinal, given_up.client) == (1, "a")
    assert "asked 5 times" in (given_up.failure or "")
    assert aggregation.status(registry, TENANT, "r1").failed == 1
    late = model_update.accept(registry, TENANT, "a", item(registry).assignment, now)
    assert late.outcome == "late"


def test_who_accepts_is_not_sent_it_again(registry: Registry) -> None:
    make_fleet(registry, ["a"])
    open_round(registry, ["a"])
    assignment = sent(registry)["a"].assignment
    for _ in range(2):
        assert model_update.accept(registry, TENANT, "a", assignment, NOW).outcome == "kept"
    assert item(registry).state == "accepted"
    assert sent(registry, NOW + 500.0) == {}


def test_who_declines_counts_as_failed_with_the_reason(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    open_round(registry, ["a", "b"])
    assignment = sent(registry)["a"].assignment
    for _ in range(2):
        answer = model_update.decline(registry, TENANT, "a", assignment, "not\0today", NOW)
        assert answer.outcome == "kept"
    status = aggregation.status(registry, TENANT, "r1")
    assert status.failures == {"a": "not\N{REPLACEMENT CHARACTER}today"}
    assert (status.failed, status.waiting) == (1, 1)
    assert model_update.accept(registry, TENANT, "a", assignment, NOW).outcome == "refused"


def test_a_client_neither_accepts_nor_declines_what_is_anothers(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    open_round(registry, ["a", "b"])
    assignment = sent(registry)["a"].assignment
    assert model_update.accept(registry, TENANT, "b", assignment, NOW).outcome == "refused"
    assert model_update.decline(registry, TENANT, "b", assignment, "", NOW).outcome == "refused"
    assert model_update.accept(registry, TENANT, "a", "made-up", NOW).outcome == "refused"
    assert item(registry).state == "sent"


def test_the_deadline_closes_a_round_and_its_work_is_late(registry: Registry) -> None:
    sessions = make_fleet(registry, ["a", "b", "c"])
    enroll(registry, "d")
    open_round(registry, ["a", "b", "c", "d"])
    due = sent(registry)
    model_update.accept(registry, TENANT, "a", due["a"].assignment, NOW)
    model_update.decline(registry, TENANT, "c", due["c"].assignment, "no", NOW)
    assert model_update.expire(registry, NOW + 599.9) == 0
    assert model_update.expire(registry, NOW + 600.0) == 1
    assert model_update.expire(registry, NOW + 600.0) == 0
    status = aggregation.status(registry, TENANT, "r1")
    assert (status.state, status.closed, status.waiting) == ("closed", NOW + 600.0, 0)
    assert (status.reported, status.failed) == (0, 4)
    assert status.failures["a"] == "it did not report before the deadline"
    assert item(registry, "d").state == "late"
    cancels = model_update.cancels(registry, GATEWAY, NOW + 600.0)
    assert sorted(cancels) == sorted((sessions[client], due[client].assignment) for client in "ab")
    assert model_update.cancels(registry, GATEWAY, NOW + 600.0) == []
    assert model_update.accept(registry, TENANT, "b", due["b"].assignment, NOW + 601.0).outcome == "late"
    assert model_update.decline(registry, TENANT, "b", due["b"].assignment, "", NOW + 601.0).outcome == "late"


def test_a_client_that_was_never_sent_its_work_is_not_told_that_it_is_over(registry: Registry) -> None:
    make_fleet(registry, ["a"])
    open_round(registry, ["a"])
    aggregation.close(registry, TENANT, "r1", CloseRequest(outcome="failed"), NOW)
    assert model_update.cancels(registry, GATEWAY, NOW) == []
    assert item(registry).state == "canceled"
    assert sent(registry) == {}


def test_work_of_many_clients_is_handed_out_in_parts(registry: Registry) -> None:
    clients = [f"c{n}" for n in range(7)]
    make_fleet(registry, clients)
    open_round(registry, clients)
    counts = [len(model_update.due(registry, GATEWAY, NOW, 3)) for _ in range(4)]
    assert counts == [3, 3, 1, 0]


def test_a_client_that_left_is_not_sent_anything(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    open_round(registry, ["a"])
    monitoring.disconnect(registry, session, NOW)
    assert sent(registry) == {}
    assert item(registry).attempts == 0


def test_two_coordinators_that_open_one_round_at_once_have_one(registry: Registry) -> None:
    make_fleet(registry, [f"c{n}" for n in range(6)])
    cohorts = [["c0", "c1"], ["c2", "c3"], ["c4", "c5"]]
    found = at_once(
        [
            lambda cohort=cohort: model_update.open_round(  # type: ignore[misc]
                registry, TENANT, "r1", round_request(cohort), NOW
            )
            for cohort in cohorts
        ]
    )
    assert len({tuple(each.cohort) for each in found if not isinstance(each, Exception)}) == 1
    assert len(aggregation.queue(registry, TENANT, "r1").items) == 2
