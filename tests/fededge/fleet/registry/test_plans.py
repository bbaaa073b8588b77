"""No function of the gateway reads a whole table that grows with clients, rounds or reports."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from fededge.fleet.functions import (
    aggregation,
    blobs,
    enrollment,
    model_update,
    monitoring,
    operators,
    retention,
    selection,
    triggering,
)
from fededge.fleet.functions.work import assignment_id
from fededge.fleet.gateway import dispatch
from fededge.fleet.gateway.grants import Keys
from fededge.fleet.gateway.objects import Files
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import (
    ClientChange,
    CloseRequest,
    OperatorRequest,
    ReportMessage,
    SelectionRequest,
    TriggerRequest,
    UploadRequest,
)
from tests.registries import (
    GATEWAY,
    NOW,
    PLAN,
    SCHEMA,
    TENANT,
    UPDATE,
    UPDATE_BYTES,
    connect,
    make_fleet,
    open_round,
    sent,
)

SMALL = {"alembic_version", "chains", "gateways", "tenants", "CONSTANT"}
STARTS = ("SELECT", "UPDATE", "DELETE", "INSERT")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    yield registry
    registry.close()


def scans(registry: Registry, statements: list[tuple[str, Any]]) -> set[str]:
    """What SQLite's plans read whole, beside small tables: all of a table, or all of a tenant's rows."""
    found = set()
    for statement, parameters in statements:
        plan = registry.read(
            lambda connection, statement=statement, parameters=parameters: connection.exec_driver_sql(  # type: ignore[misc]
                f"EXPLAIN QUERY PLAN {statement}", parameters
            ).all()
        )
        for line in plan:
            match = re.match(r"SCAN (\w+)|SEARCH (\w+) .*\(tenant=\?\)", line.detail)
            if match and (match[1] or match[2]) not in SMALL:
                found.add(f"{line.detail}: {statement}")
    return found


def evaluate(registry: Registry) -> None:
    open_round(registry, "a", "evaluation", kind="evaluate", update_bytes=None)
    assignment = assignment_id(TENANT, "evaluation", "a")
    counts = {"examples": 1.0, "loss_sum": 1.0, "correct": 1.0}
    message = ReportMessage(assignment=assignment, counts=counts)
    assert aggregation.report(registry, TENANT, "a", message, NOW).answer.outcome == "kept"
    aggregation.close(registry, TENANT, "evaluation", CloseRequest(outcome="committed"), NOW)


def work_with(registry: Registry) -> None:
    """Call every function once at least."""
    sessions = make_fleet(registry, "abc")
    connect(registry, "a", resume=sessions["a"])
    asked: dict[str, Any] = {
        "task": "tumors",
        "dataset": "scans",
        "framework": "keras",
        "schema_digest": SCHEMA,
        "size": 2,
    }
    for policy in ("uniform", "fair"):
        request = SelectionRequest(**asked, seed=1, number=1, policy=policy)
        selection.select(registry, TENANT, request, NOW)
    open_round(registry, "abc")
    due = sent(registry)
    upload = UploadRequest(assignment=due["a"].assignment, digest=UPDATE, bytes=UPDATE_BYTES)
    aggregation.expected(registry, TENANT, "a", upload, NOW)
    model_update.accept(registry, TENANT, "a", due["a"].assignment, NOW)
    message = ReportMessage(assignment=due["a"].assignment, update=UPDATE, seconds=1.0)
    aggregation.report(registry, TENANT, "a", message, NOW)
    model_update.decline(registry, TENANT, "b", due["b"].assignment, "no", NOW)
    aggregation.moved(registry, TENANT, due["a"].round, up=1)
    aggregation.reports(registry, TENANT, "r1", 0)
    aggregation.queue(registry, TENANT, "r1")
    aggregation.rounds(registry, TENANT, task="tumors", state="open")
    aggregation.close(registry, TENANT, "r1", CloseRequest(outcome="committed", losses={"a": 1.0}), NOW)
    assert model_update.cancels(registry, GATEWAY, NOW)
    open_round(registry, "abc", "r2")
    enrollment.revoke(registry, TENANT, "c", "admin", NOW)
    assert model_update.expire(registry, NOW + 600.0) == 1
    model_update.set_right(registry, GATEWAY, NOW)
    beats = {session: {"charging": "yes"} for session in sessions.values()}
    monitoring.beat(registry, beats, NOW)
    dispatch.poll(registry, Files(Path("objects"), Keys(b"k" * 32), "", 60.0), GATEWAY, NOW)
    monitoring.work_by_state(registry)
    monitoring.disconnect(registry, sessions["b"], NOW)
    assert monitoring.sweep(registry, NOW + 31.0)
    monitoring.lease(registry, "gateway-2", "http://other", 3600.0, NOW)
    assert monitoring.sweep(registry, NOW + 1800.0)
    enrollment.change(registry, TENANT, "a", ClientChange(region="x"), "admin", NOW)
    enrollment.info(registry, TENANT, "a", NOW)
    everyone: dict[str, Any] = {}
    for filters in (everyone, {"dataset": "scans"}, {"connected": True}, {"state": "active", "region": "x"}):
        enrollment.listing(registry, TENANT, NOW, **filters)
    made = operators.make(registry, TENANT, OperatorRequest(name="ci", scope="reader"), "admin", NOW)
    operators.token_of(registry, made.token, NOW)
    operators.used(registry, made.id, NOW)
    operators.listing(registry, TENANT)
    operators.revoke(registry, TENANT, made.id, "admin", NOW)
    blobs.known(registry, TENANT, PLAN)
    blobs.unused(registry, TENANT, NOW + 1.0)
    audit.listing(registry, TENANT)
    for name, said in {
        "often": {"when": "interval", "every_seconds": 1.0},
        "examples": {"when": "examples", "dataset": "scans", "count": 1},
        "reports": {"when": "blobs", "count": 1},
        "drift": {"when": "drift", "metric": "accuracy", "change": 1.0},
    }.items():
        trigger = TriggerRequest.model_validate({"task": '{"name":"tumors"}', **said})
        triggering.put(registry, TENANT, name, trigger, "admin", NOW)
    evaluate(registry)
    for start in triggering.due(registry, NOW + 3600.0):
        triggering.started(registry, TENANT, start.name, start.start, "run", NOW)
        triggering.ended(registry, TENANT, start.name, start.start, "", NOW)
    triggering.listing(registry, TENANT)
    blobs.removed(registry, TENANT, PLAN)
    triggering.fire(registry, TENANT, "often", "admin", NOW)
    triggering.delete(registry, TENANT, "often", "admin", NOW)
    assert retention.forget(registry, NOW + 1e6) == 3
    assert retention.forget_tokens(registry, NOW + 1e7) > 0


def test_every_statement_finds_its_rows_by_an_index(registry: Registry) -> None:
    statements: list[tuple[str, Any]] = []

    @event.listens_for(registry._engine, "before_cursor_execute")
    def note(_c: Any, _u: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if statement.startswith(STARTS):
            statements.append((statement, parameters[0] if many else parameters))

    work_with(registry)
    event.remove(registry._engine, "before_cursor_execute", note)
    assert len({statement for statement, _ in statements}) > 80
    assert scans(registry, statements) == set()


def test_a_statement_that_reads_a_whole_table_is_noticed(registry: Registry) -> None:
    assert scans(registry, [("SELECT client FROM work WHERE message = ?", ("x",))]) == {
        "SCAN work: SELECT client FROM work WHERE message = ?"
    }
    (found,) = scans(registry, [("SELECT client FROM work WHERE tenant = ? AND message = ?", ("x", "x"))])
    assert found.startswith("SEARCH work USING INDEX")
