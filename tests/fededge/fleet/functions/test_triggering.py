"""Runs start by themselves: when they are due, once, and not while one is in progress."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, monitoring, triggering
from fededge.fleet.functions.conditions import LOOK_SECONDS
from fededge.fleet.functions.triggering import CLAIM_SECONDS, Start
from fededge.fleet.functions.work import assignment_id
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import CloseRequest, Dataset, ReportMessage, TriggerInfo, TriggerRequest
from tests.registries import (
    NOW,
    SCHEMA,
    TENANT,
    UPDATE,
    at_once,
    connect,
    make_fleet,
    make_tenant,
    open_round,
    sent,
)

TASK = json.dumps({"name": "tumors"})
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def put(registry: Registry, name: str = "nightly", **said: Any) -> TriggerInfo:
    request = TriggerRequest(**{"task": TASK, **said})
    return triggering.put(registry, TENANT, name, request, "admin", NOW)


def names(starts: list[Start]) -> list[str]:
    return sorted(start.name for start in starts)


def finish(registry: Registry, start: Start, now: float) -> None:
    triggering.started(registry, start.tenant, start.name, start.start, "run-1", now)
    triggering.ended(registry, start.tenant, start.name, start.start, "", now)


def test_a_schedule_starts_at_its_time_in_utc(registry: Registry) -> None:
    make_tenant(registry)
    info = put(registry, when="cron", cron="30 2 * * *")
    next_start = info.next_start
    assert next_start is not None
    assert next_start % DAY == 2.5 * HOUR
    assert NOW < next_start <= NOW + DAY
    assert triggering.due(registry, next_start - 1.0) == []
    (start,) = triggering.due(registry, next_start)
    assert (start.tenant, start.name, start.task, start.target) == (TENANT, "nightly", TASK, "local")
    assert triggering.due(registry, next_start) == []
    triggering.started(registry, TENANT, "nightly", start.start, "run-7", next_start + 1.0)
    info = triggering.get(registry, TENANT, "nightly")
    assert (info.state, info.run, info.last_start) == ("running", "run-7", next_start)
    assert info.next_start == next_start + DAY
    triggering.ended(registry, TENANT, "nightly", start.start, "it failed", next_start + 9.0)
    info = triggering.get(registry, TENANT, "nightly")
    assert (info.state, info.run, info.message) == ("idle", "run-7", "it failed")


def test_an_interval_begins_when_it_is_made(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, when="interval", every_seconds=HOUR)
    assert triggering.due(registry, NOW + HOUR - 1.0) == []
    (start,) = triggering.due(registry, NOW + HOUR)
    finish(registry, start, NOW + HOUR + MINUTE)
    assert triggering.due(registry, NOW + 2 * HOUR - 1.0) == []
    assert len(triggering.due(registry, NOW + 2 * HOUR)) == 1


def test_missed_times_are_caught_up_once(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, when="cron", cron="0 * * * *")
    later = NOW + 10 * DAY
    (start,) = triggering.due(registry, later)
    finish(registry, start, later + 1.0)
    assert triggering.due(registry, later + 1.0) == []
    next_start = triggering.get(registry, TENANT, "nightly").next_start
    assert next_start is not None
    assert later < next_start <= later + HOUR


def test_a_run_in_progress_is_not_started_again_and_what_fell_due_starts_after_it_once(
    registry: Registry,
) -> None:
    make_tenant(registry)
    put(registry, when="interval", every_seconds=HOUR)
    (start,) = triggering.due(registry, NOW + HOUR)
    triggering.started(registry, TENANT, "nightly", start.start, "run-1", NOW + HOUR)
    assert triggering.due(registry, NOW + 9 * HOUR) == []
    with pytest.raises(GatewayError, match="is running") as refused:
        triggering.fire(registry, TENANT, "nightly", "admin", NOW + 9 * HOUR)
    assert (refused.value.reason, refused.value.status) == ("RUNNING", 409)
    assert triggering.running(registry) == [(TENANT, "nightly", start.start, "run-1")]
    triggering.ended(registry, TENANT, "nightly", start.start, "", NOW + 9.5 * HOUR)
    (again,) = triggering.due(registry, NOW + 9.5 * HOUR)
    assert again.start != start.start
    finish(registry, again, NOW + 9.6 * HOUR)
    assert triggering.due(registry, NOW + 9.6 * HOUR) == []


def test_of_many_gateways_one_starts_a_run(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened(), opened()]
    make_tenant(registries[0])
    for name in "abc":
        put(registries[0], name, when="interval", every_seconds=HOUR)
    for round in range(1, 6):
        now = NOW + round * DAY
        found = at_once([lambda n=n, now=now: triggering.due(registries[n % 3], now) for n in range(6)])  # type: ignore[misc]
        starts = [start for each in found if not isinstance(each, Exception) for start in each]
        assert names(starts) == ["a", "b", "c"]
        for start in starts:
            finish(registries[0], start, now + 1.0)


def test_a_start_whose_gateway_ended_is_claimed_again_under_the_same_id(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, when="interval", every_seconds=HOUR)
    (start,) = triggering.due(registry, NOW + HOUR)
    assert triggering.due(registry, NOW + HOUR + CLAIM_SECONDS - 1.0) == []
    (again,) = triggering.due(registry, NOW + HOUR + CLAIM_SECONDS)
    assert again == start
    finish(registry, again, NOW + HOUR + CLAIM_SECONDS)
    triggering.started(registry, TENANT, "nightly", start.start, "late", NOW + 2 * HOUR)
    assert triggering.get(registry, TENANT, "nightly").state == "idle"


def test_new_examples_start_a_run_when_there_are_enough(registry: Registry) -> None:
    sessions = make_fleet(registry, "ab")  # 200 examples
    put(registry, when="examples", dataset="scans", count=50)
    now = NOW + LOOK_SECONDS
    assert triggering.due(registry, now) == []

    def grow(train: int, now: float) -> None:
        monitoring.disconnect(registry, sessions["a"], now)
        held = [Dataset(name="scans", train=train, test=1, schema_digest=SCHEMA)]
        sessions["a"] = connect(registry, "a", datasets=held, now=now).session

    grow(149, now)
    assert triggering.due(registry, now + LOOK_SECONDS) == []
    grow(150, now)
    assert triggering.due(registry, now + LOOK_SECONDS + 1.0) == []  # not looked at yet
    (start,) = triggering.due(registry, now + 2 * LOOK_SECONDS)
    finish(registry, start, now + 3 * LOOK_SECONDS)
    grow(199, now)
    assert triggering.due(registry, now + 4 * LOOK_SECONDS) == []
    grow(200, now)
    assert len(triggering.due(registry, now + 5 * LOOK_SECONDS)) == 1


@pytest.mark.parametrize("said", [{}, {"dataset": "scans"}])
def test_new_reports_start_a_run_when_there_are_enough(registry: Registry, said: dict[str, str]) -> None:
    make_fleet(registry, "abc")
    open_round(registry, "abc")
    due = sent(registry)

    def report(client: str, **said: Any) -> None:
        message = ReportMessage(**{"assignment": due[client].assignment, "update": UPDATE, **said})
        assert aggregation.report(registry, TENANT, client, message, NOW).answer.outcome == "kept"

    report("a")
    put(registry, when="blobs", count=1, **said)
    report("b", update=None, failure="no power")
    assert triggering.due(registry, NOW + LOOK_SECONDS) == []
    report("c")
    assert len(triggering.due(registry, NOW + 2 * LOOK_SECONDS)) == 1


def test_drift_starts_a_run_when_a_metric_moved_far_enough_from_the_last_start(registry: Registry) -> None:
    make_fleet(registry, "ab")
    put(registry, when="drift", metric="accuracy", change=0.25)
    now = NOW

    def evaluated(value: float, task: str = "tumors", outcome: str = "committed") -> list[Start]:
        """What is due after the clients evaluated the model of a task."""
        nonlocal now
        now += LOOK_SECONDS
        round = f"{task}-{now:.0f}"
        open_round(registry, "ab", round, task=task, kind="evaluate", update_bytes=None, seconds=10_000.0)
        for client, examples in (("a", 24.0), ("b", 8.0)):
            counts = {"examples": examples, "correct": examples * value, "loss_sum": now}
            assignment = assignment_id(TENANT, round, client)
            message = ReportMessage(assignment=assignment, counts=counts)
            assert aggregation.report(registry, TENANT, client, message, now).answer.outcome == "kept"
        told = CloseRequest.model_validate({"outcome": outcome})
        aggregation.close(registry, TENANT, round, told, now)
        return triggering.due(registry, now)

    assert triggering.due(registry, now + 1.0) == []
    assert evaluated(0.75) == []  # the first value is what is compared with
    assert evaluated(0.875) == []
    assert evaluated(0.0, task="bones") == []
    assert evaluated(0.0, outcome="failed") == []
    (start,) = evaluated(0.5)
    finish(registry, start, now)
    assert evaluated(0.625) == []
    assert len(evaluated(0.75)) == 1


def test_starts_of_two_tenants_have_different_ids(registry: Registry) -> None:
    request = TriggerRequest(when="hand", task=TASK)
    for tenant in ("ours", "theirs"):
        make_tenant(registry, tenant)
        triggering.put(registry, tenant, "demand", request, "admin", NOW)
        triggering.fire(registry, tenant, "demand", "admin", NOW)
    starts = triggering.due(registry, NOW)
    assert len({start.start for start in starts}) == 2


def test_a_trigger_fires_by_hand_whatever_it_waits_for(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, "hand", when="hand")
    put(registry, "paused", when="cron", cron="* * * * *", enabled=False)
    assert triggering.due(registry, NOW + DAY) == []
    for name in ("hand", "paused"):
        assert triggering.fire(registry, TENANT, name, "ada", NOW + DAY).state == "due"
        (start,) = triggering.due(registry, NOW + DAY)
        assert start.name == name
        finish(registry, start, NOW + DAY)
    assert triggering.due(registry, NOW + 2 * DAY) == []
    assert [
        line.actor for line in audit.listing(registry, TENANT).items if line.action == "trigger.fire"
    ] == [
        "ada",
        "ada",
    ]


def test_a_trigger_ends(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, when="interval", every_seconds=HOUR, ends=NOW + 1.5 * HOUR)
    (start,) = triggering.due(registry, NOW + HOUR)
    finish(registry, start, NOW + HOUR)
    assert triggering.due(registry, NOW + 2 * HOUR) == []
    info = triggering.get(registry, TENANT, "nightly")
    assert (info.message, info.next_start) == ("it has ended", None)
    with pytest.raises(GatewayError, match="has ended"):
        triggering.fire(registry, TENANT, "nightly", "admin", NOW + 2 * HOUR)


def test_a_trigger_is_changed_while_its_run_goes_on(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, when="interval", every_seconds=HOUR)
    (start,) = triggering.due(registry, NOW + HOUR)
    triggering.started(registry, TENANT, "nightly", start.start, "run-1", NOW + HOUR)
    info = put(registry, when="interval", every_seconds=2 * HOUR)
    assert (info.state, info.next_start) == ("running", NOW + 2 * HOUR)
    assert triggering.due(registry, NOW + 3 * HOUR) == []
    triggering.ended(registry, TENANT, "nightly", start.start, "", NOW + 1.5 * HOUR)
    assert triggering.due(registry, NOW + 1.9 * HOUR) == []
    assert len(triggering.due(registry, NOW + 2 * HOUR)) == 1


def test_putting_a_trigger_again_changes_nothing(registry: Registry) -> None:
    make_tenant(registry)
    first = put(registry, when="interval", every_seconds=HOUR)
    request = TriggerRequest(when="interval", every_seconds=HOUR, task=TASK)
    assert triggering.put(registry, TENANT, "nightly", request, "admin", NOW + MINUTE) == first
    assert [line.action for line in audit.listing(registry, TENANT).items].count("trigger.put") == 1


def test_a_trigger_is_listed_and_taken_away(registry: Registry) -> None:
    make_tenant(registry)
    for name in "abc":
        put(registry, name, when="interval", every_seconds=HOUR)
    triggering.delete(registry, TENANT, "b", "admin", NOW)
    assert [each.name for each in triggering.listing(registry, TENANT).items] == ["a", "c"]
    assert triggering.listing(registry, TENANT, limit=1).next == "a"
    assert names(triggering.due(registry, NOW + HOUR)) == ["a", "c"]
    for attempt in (
        lambda: triggering.get(registry, TENANT, "b"),
        lambda: triggering.delete(registry, TENANT, "b", "admin", NOW),
        lambda: triggering.fire(registry, TENANT, "b", "admin", NOW),
    ):
        with pytest.raises(GatewayError) as refused:
            attempt()
        assert (refused.value.reason, refused.value.status) == ("NO_TRIGGER", 404)


def test_the_run_of_a_trigger_that_was_taken_away_may_end(registry: Registry) -> None:
    make_tenant(registry)
    put(registry, when="interval", every_seconds=HOUR)
    (start,) = triggering.due(registry, NOW + HOUR)
    triggering.delete(registry, TENANT, "nightly", "admin", NOW)
    finish(registry, start, NOW + HOUR)


@pytest.mark.parametrize(
    "said",
    [
        {"when": "cron"},
        {"when": "cron", "cron": "* * * * * *"},
        {"when": "cron", "cron": "often"},
        {"when": "cron", "cron": "0 0 30 2 *"},
        {"when": "cron", "cron": "0 0 99 * *"},
        {"when": "interval"},
        {"when": "examples", "count": 1},
        {"when": "blobs"},
        {"when": "drift", "metric": "accuracy"},
        {"when": "hand", "task": "{"},
        {"when": "hand", "task": "[]"},
        {"when": "hand", "task": "{}"},
        {"when": "hand", "task": "[" * 100_000},
    ],
)
def test_a_trigger_that_cannot_work_is_refused(registry: Registry, said: dict[str, Any]) -> None:
    make_tenant(registry)
    with pytest.raises(GatewayError) as refused:
        put(registry, **said)
    assert (refused.value.reason, refused.value.status) == ("TRIGGER", 400)
    assert triggering.listing(registry, TENANT).items == []
