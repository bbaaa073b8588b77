"""Triggering: pipeline runs that start by themselves, each once, whichever gateway looks first.

A trigger that a gateway claimed and did not start within CLAIM_SECONDS (it ended meanwhile) is claimed again, with the
same id of the start: whoever starts it names the run so, and finds out whether it is there.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from croniter import croniter
from croniter.croniter import CroniterError
from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy import delete as delete_from

from fededge.errors import GatewayError, shown
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry, add, locked
from fededge.fleet.registry.pages import page
from fededge.fleet.registry.tables import datasets, evaluations, rounds, triggers
from fededge.protocol import Page, TriggerInfo, TriggerRequest

CLAIM_SECONDS = 120.0
LOOK_SECONDS = 10.0
"""How often examples, reports and evaluations are looked at."""
NEEDS = {
    "cron": ("cron",),
    "interval": ("every_seconds",),
    "examples": ("dataset", "count"),
    "blobs": ("count",),
    "drift": ("metric", "change"),
    "hand": (),
}
"""Fields that each kind of trigger needs."""


@dataclass(frozen=True)
class Start:
    """A run to start now.

    Attributes:
        start: its id, the same if it is claimed again.
        task: canonical JSON; `target`: local or kubeflow.
    """

    tenant: str
    name: str
    start: str
    task: str
    target: str


def put(
    registry: Registry, tenant: str, name: str, request: TriggerRequest, actor: str, now: float
) -> TriggerInfo:
    """Make a trigger, or change one; a run of it that is in progress goes on.

    Raises:
        GatewayError: the request lacks what its kind needs, its schedule never comes, or its task is no JSON object.
    """
    _check(request)
    mine = (triggers.c.tenant == tenant, triggers.c.name == name)

    def kept(connection: Connection) -> None:
        empty = {"tenant": tenant, "name": name, "request": {}, "state": "idle", "message": ""}
        add(connection, triggers, empty)
        before = connection.execute(locked(select(triggers).where(*mine))).one()
        content = request.to_content()
        values: dict[str, Any] = {"request": content}
        if before.request != content:
            values["baseline"] = _measured(connection, tenant, request)
            values["next_start"] = _after(request, now)
            if before.state == "idle":
                values["next_look"] = _look(request, values["next_start"], now)
            connection.execute(update(triggers).where(*mine).values(values))
            details = {key: value for key, value in content.items() if key != "task"}
            audit.append(connection, tenant, actor, "trigger.put", name, details, now)

    registry.run(kept)
    return get(registry, tenant, name)


def get(registry: Registry, tenant: str, name: str) -> TriggerInfo:
    """A trigger.

    Raises:
        GatewayError: no such trigger.
    """
    query = select(triggers).where(triggers.c.tenant == tenant, triggers.c.name == name)
    row = registry.read(lambda connection: connection.execute(query).one_or_none())
    if row is None:
        raise _no_trigger(name)
    return _info(row)


def listing(registry: Registry, tenant: str, after: str = "", limit: int = 100) -> Page[TriggerInfo]:
    """Triggers in the order of their names, after `after`."""
    query = select(triggers).where(triggers.c.tenant == tenant)
    rows, following = registry.read(lambda connection: page(connection, query, triggers.c.name, after, limit))
    return Page[TriggerInfo](items=[_info(row) for row in rows], next=following)


def delete(registry: Registry, tenant: str, name: str, actor: str, now: float) -> None:
    """Take a trigger away; a run of it that is in progress goes on.

    Raises:
        GatewayError: no such trigger.
    """
    mine = (triggers.c.tenant == tenant, triggers.c.name == name)

    def deleted(connection: Connection) -> None:
        if not connection.execute(delete_from(triggers).where(*mine)).rowcount:
            raise _no_trigger(name)
        audit.append(connection, tenant, actor, "trigger.delete", name, {}, now)

    registry.run(deleted)


def fire(registry: Registry, tenant: str, name: str, actor: str, now: float) -> TriggerInfo:
    """Start a trigger's run now, whatever it waits for.

    Raises:
        GatewayError: no such trigger, or a run of it is in progress.
    """

    def fired(connection: Connection) -> None:
        row = _find(connection, tenant, name)
        if row is None:
            raise _no_trigger(name)
        start = _start_id(row, now)
        if row.start == start:
            return  # this, repeated
        ends = _request(row).ends
        if ends is not None and now >= ends:
            raise GatewayError(f"trigger {shown(name)} has ended: change its end", "ENDED", 409)
        if row.state != "idle":
            raise GatewayError(f"trigger {shown(name)} is {row.state}: wait for its run", "RUNNING", 409)
        _change(connection, row, state="due", start=start, next_look=now)
        audit.append(connection, tenant, actor, "trigger.fire", name, {}, now)

    registry.run(fired)
    return get(registry, tenant, name)


def due(registry: Registry, now: float) -> list[Start]:
    """Runs to start now, each claimed for the caller alone; tell `started` of each, or `ended` where it cannot be."""
    query = select(triggers).where(triggers.c.next_look <= now).order_by(triggers.c.next_look).limit(100)
    if not registry.read(lambda connection: connection.execute(query).first()):
        return []

    def claimed(connection: Connection) -> list[Start]:
        rows = connection.execute(query.with_for_update(key_share=True, skip_locked=True)).all()
        return [start for row in rows if (start := _claim(connection, row, now)) is not None]

    return registry.run(claimed)


def started(registry: Registry, tenant: str, name: str, start: str, run: str, now: float) -> None:
    """Note that the run of a claimed start is in progress; nothing where it is over, or its trigger is gone."""

    def noted(connection: Connection) -> None:
        row = _find(connection, tenant, name)
        if row is not None and row.start == start:
            _change(connection, row, state="running", run=run, next_look=None, message="")

    registry.run(noted)


def ended(registry: Registry, tenant: str, name: str, start: str, message: str, now: float) -> None:
    """Note that the run of a start is over, or could not begin. What fell due meanwhile starts now, once."""

    def noted(connection: Connection) -> None:
        row = _find(connection, tenant, name)
        if row is not None and row.start == start:
            look = _look(_request(row), row.next_start, now)
            _change(connection, row, state="idle", start=None, next_look=look, message=message[:500])

    registry.run(noted)


def running(registry: Registry, tenant: str | None = None) -> list[tuple[str, str, str, str]]:
    """Tenant, trigger, start and run of each run in progress: whoever restarts looks after them."""
    query = select(triggers.c.tenant, triggers.c.name, triggers.c.start, triggers.c.run).where(
        triggers.c.state == "running"
    )
    if tenant is not None:
        query = query.where(triggers.c.tenant == tenant)
    rows = registry.read(lambda connection: connection.execute(query).all())
    return [(row.tenant, row.name, row.start, row.run) for row in rows]


def evaluated(registry: Registry, tenant: str, task: str, metric: str, value: float, now: float) -> None:
    """Keep the last value of a task's metric, for the triggers that watch its drift."""
    key = {"tenant": tenant, "task": task, "metric": metric}
    mine = tuple(evaluations.c[name] == held for name, held in key.items())

    def kept(connection: Connection) -> None:
        add(connection, evaluations, {**key, "value": value, "at": now})
        connection.execute(update(evaluations).where(*mine).values(value=value, at=now))

    registry.run(kept)


def _claim(connection: Connection, row: Row[Any], now: float) -> Start | None:
    request = _request(row)
    if row.state == "idle":
        if request.ends is not None and now >= request.ends:
            _change(connection, row, next_look=None, next_start=None, message="it has ended")
            return None
        if not _is_due(connection, row, request, now):
            _change(connection, row, next_look=_look(request, row.next_start, now))
            return None
    start = row.start or _start_id(row, now)
    _change(
        connection,
        row,
        state="due",
        start=start,
        last_start=now,
        next_start=_after(request, now),
        next_look=now + CLAIM_SECONDS,
        baseline=_measured(connection, row.tenant, request),
    )
    return Start(row.tenant, row.name, start, request.task, request.target)


def _is_due(connection: Connection, row: Row[Any], request: TriggerRequest, now: float) -> bool:
    if request.when in ("cron", "interval"):
        return row.next_start is not None and row.next_start <= now
    value = _measured(connection, row.tenant, request)
    if value is None:
        return False
    if request.when == "drift":
        if row.baseline is None:
            _change(connection, row, baseline=value)
            return False
        return abs(value - row.baseline) >= (request.change or 0)
    return value - (row.baseline or 0) >= (request.count or 1)


def _measured(connection: Connection, tenant: str, request: TriggerRequest) -> float | None:
    """What examples, reports or an evaluation amount to now."""
    if request.when == "examples":
        query = select(func.sum(datasets.c.train)).where(
            datasets.c.tenant == tenant, datasets.c.dataset == request.dataset
        )
        return float(connection.execute(query).scalar_one() or 0)
    if request.when == "blobs":
        of = (
            rounds.c.dataset == request.dataset
            if request.dataset is not None
            else rounds.c.task == _task_name(request)
        )
        reports = select(func.sum(rounds.c.reported)).where(rounds.c.tenant == tenant, of)
        return float(connection.execute(reports).scalar_one() or 0)
    if request.when == "drift":
        last = select(evaluations.c.value).where(
            evaluations.c.tenant == tenant,
            evaluations.c.task == _task_name(request),
            evaluations.c.metric == request.metric,
        )
        return connection.execute(last).scalar_one_or_none()
    return None


def _after(request: TriggerRequest, now: float) -> float | None:
    """When a schedule comes next; None where there is none."""
    if request.when == "interval":
        return now + (request.every_seconds or 0)
    if request.when == "cron":
        at = datetime.fromtimestamp(now, UTC)
        return float(croniter(request.cron, at).get_next(datetime).timestamp())
    return None


def _look(request: TriggerRequest, next_start: float | None, now: float) -> float | None:
    """When to look whether an idle trigger is due."""
    if not request.enabled or request.when == "hand":
        return None
    return next_start if request.when in ("cron", "interval") else now + LOOK_SECONDS


def _check(request: TriggerRequest) -> None:
    missing = [name for name in NEEDS[request.when] if getattr(request, name) is None]
    if missing:
        raise GatewayError(f"a trigger of kind {request.when} needs {' and '.join(missing)}", "TRIGGER", 400)
    if request.when == "cron":
        cron = request.cron or ""
        try:
            if len(cron.split()) != 5:
                raise ValueError("not five fields")
            _after(request, 0.0)
        except (CroniterError, ValueError) as error:
            raise GatewayError(
                f"cron {shown(cron)} is no schedule of five fields that ever comes: {error}", "TRIGGER", 400
            ) from error
    try:
        task = json.loads(request.task)
    except (ValueError, RecursionError) as error:
        raise GatewayError(f"the trigger's task is not JSON: {error}", "TRIGGER", 400) from error
    if not isinstance(task, dict) or not isinstance(task.get("name"), str):
        raise GatewayError("the trigger's task is no JSON object with a name", "TRIGGER", 400)


def _task_name(request: TriggerRequest) -> str:
    return str(json.loads(request.task)["name"])


def _request(row: Row[Any]) -> TriggerRequest:
    return TriggerRequest(**row.request)


def _start_id(row: Row[Any], now: float) -> str:
    return f"{row.name}-{int(1000 * now)}"


def _find(connection: Connection, tenant: str, name: str) -> Row[Any] | None:
    """A trigger, locked; None where there is none."""
    query = select(triggers).where(triggers.c.tenant == tenant, triggers.c.name == name)
    return connection.execute(locked(query)).one_or_none()


def _change(connection: Connection, row: Row[Any], **values: Any) -> None:
    connection.execute(
        update(triggers).where(triggers.c.tenant == row.tenant, triggers.c.name == row.name).values(**values)
    )


def _info(row: Row[Any]) -> TriggerInfo:
    return TriggerInfo(
        **row.request,
        name=row.name,
        state=row.state,
        run=row.run,
        last_start=row.last_start,
        next_start=row.next_start,
        message=row.message,
    )


def _no_trigger(name: str) -> GatewayError:
    return GatewayError(f"no trigger {shown(name)}: list them", "NO_TRIGGER", 404)
