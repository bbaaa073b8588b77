"""Triggering: pipeline runs that start by themselves, each once, whichever gateway looks first.

A trigger that a gateway claimed and did not start within CLAIM_SECONDS (it ended meanwhile) is claimed again, with the
same id of the start: whoever starts it names the run so, and finds out whether it is there.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy import delete as delete_from

from fededge.errors import GatewayError, shown
from fededge.fleet.functions import conditions
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry, add, locked
from fededge.fleet.registry.pages import page
from fededge.fleet.registry.tables import triggers
from fededge.protocol import Page, TriggerInfo, TriggerRequest

CLAIM_SECONDS = 120.0


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
    conditions.check(request)
    mine = (triggers.c.tenant == tenant, triggers.c.name == name)

    def kept(connection: Connection) -> None:
        empty = {"tenant": tenant, "name": name, "request": {}, "state": "idle", "message": ""}
        add(connection, triggers, empty)
        before = connection.execute(locked(select(triggers).where(*mine))).one()
        content = request.to_content()
        values: dict[str, Any] = {"request": content}
        if before.request != content:
            values["baseline"] = conditions.measured(connection, tenant, request)
            values["next_start"] = conditions.next_start(request, now)
            if before.state == "idle":
                values["next_look"] = conditions.next_look(request, values["next_start"], now)
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
            look = conditions.next_look(_request(row), row.next_start, now)
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


def _claim(connection: Connection, row: Row[Any], now: float) -> Start | None:
    request = _request(row)
    value = conditions.measured(connection, row.tenant, request)
    if row.state == "idle":
        if request.ends is not None and now >= request.ends:
            _change(connection, row, next_look=None, next_start=None, message="it has ended")
            return None
        if not conditions.is_due(request, row.next_start, row.baseline, value, now):
            look = conditions.next_look(request, row.next_start, now)
            baseline = conditions.baseline(request, row.baseline, value)
            _change(connection, row, next_look=look, baseline=baseline)
            return None
    start = row.start or _start_id(row, now)
    _change(
        connection,
        row,
        state="due",
        start=start,
        last_start=now,
        next_start=conditions.next_start(request, now),
        next_look=now + CLAIM_SECONDS,
        baseline=value,
    )
    return Start(row.tenant, row.name, start, request.task, request.target)


def _request(row: Row[Any]) -> TriggerRequest:
    return TriggerRequest(**row.request)


def _start_id(row: Row[Any], now: float) -> str:
    """A name for the run, which no other trigger's start has, whoever's it is."""
    owner = hashlib.sha256(row.tenant.encode()).hexdigest()[:8]
    return f"{row.name}-{owner}-{int(1000 * now)}"


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
