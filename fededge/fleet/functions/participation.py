"""In which rounds clients took part, how fast they were and what loss they had: what policies select by."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from fededge.fleet.registry.database import add, update_each
from fededge.fleet.registry.tables import clients, datasets, participation, work
from fededge.protocol import RoundRequest, random_key

WEIGHT = 0.5
"""Of the newest round in a client's speed."""


def note_asked(connection: Connection, tenant: str, request: RoundRequest, cohort: Sequence[str]) -> None:
    """Note that clients are asked to train."""
    asked = [
        {"tenant": tenant, "task": request.task, "client": client, "asked": request.number}
        for client in cohort
    ]
    add(connection, participation, [{**row, "random_key": random_key(str(row["client"]))} for row in asked])
    update_each(connection, participation, ("tenant", "task", "client"), asked)


def count_participation(
    connection: Connection, round: Row[Any], losses: Mapping[str, float], now: float
) -> None:
    """Note a committed round of training of each client whose report it had.

    Args:
        losses: the mean loss of each client whose update counted.
    """
    rows = connection.execute(
        select(
            work.c.client, work.c.share, work.c.seconds, clients.c.rounds, clients.c.speed, datasets.c.train
        )
        .join(clients, (clients.c.tenant == work.c.tenant) & (clients.c.client == work.c.client))
        .outerjoin(
            datasets,
            (datasets.c.tenant == work.c.tenant)
            & (datasets.c.client == work.c.client)
            & (datasets.c.dataset == round.dataset),
        )
        .where(work.c.tenant == round.tenant, work.c.round == round.round, work.c.state == "reported")
        .order_by(work.c.client)
    ).all()
    parts = [
        {
            "tenant": round.tenant,
            "client": row.client,
            "rounds": row.rounds + 1,
            "last_round": now,
            "speed": _speed(row),
        }
        for row in rows
    ]
    update_each(connection, clients, ("tenant", "client"), parts)
    parts = [
        {"tenant": round.tenant, "task": round.task, "client": row.client, "loss": losses[row.client]}
        for row in rows
        if row.client in losses
    ]
    update_each(connection, participation, ("tenant", "task", "client"), parts)


def _speed(row: Any) -> float | None:
    """A client's training examples a second, after one more round: those that it learned from, once each."""
    if not row.train or row.seconds <= 0:
        return row.speed
    measured = row.train * row.share / row.seconds
    return measured if row.speed is None else WEIGHT * measured + (1 - WEIGHT) * row.speed
