"""Rows of rounds and work, as the API tells them."""

from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from fededge.fleet.functions.work import FAILED, OPEN
from fededge.fleet.registry.tables import work
from fededge.protocol import QueueItem, Report, RoundStatus

_PARTS = (
    select(work.c.client, work.c.state, work.c.message)
    .where(work.c.tenant == bindparam("tenant"), work.c.round == bindparam("round"))
    .order_by(work.c.client)
)


def status_of(connection: Connection, row: Row[Any]) -> RoundStatus:
    """How the round of a row stands."""
    parts = connection.execute(_PARTS, {"tenant": row.tenant, "round": row.round}).all()
    plain = RoundStatus.model_fields.keys() - {"cohort", "failures"}
    return RoundStatus(
        **{name: getattr(row, name) for name in plain},
        cohort=[part.client for part in parts],
        failures={part.client: part.message for part in parts if part.state in (*FAILED, "late")},
    )


def report_of(row: Row[Any]) -> Report:
    """What the client of a row of work reported."""
    return Report(
        ordinal=row.ordinal,
        client=row.client,
        update=row.update_digest,
        counts=row.counts,
        ranges=row.ranges,
        failure=row.message if row.state in FAILED else None,
        seconds=row.seconds,
    )


def item_of(row: Row[Any]) -> QueueItem:
    """A row of work in the queue."""
    return QueueItem(
        assignment=row.assignment,
        round=row.round,
        client=row.client,
        state=row.state,
        attempts=row.attempts,
        next_try=row.next_try if row.state in OPEN else None,
        message=row.message,
    )
