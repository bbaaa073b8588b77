"""Model update: rounds are opened, their assignments sent until they are accepted, and called back when they are over."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from fededge.fleet.functions import aggregation, opening
from fededge.fleet.functions.work import (
    AFTER_DEADLINE,
    KEY,
    OPEN,
    close,
    end,
    find,
    received,
    round_of,
    take,
)
from fededge.fleet.registry.database import Registry, chunks, update_each
from fededge.fleet.registry.tables import clients, rounds, work
from fededge.protocol import Received, RoundRequest, RoundStatus

TRIES = 5
"""How often an assignment is sent before it is moved aside."""
FIRST_WAIT = 2.0
"""Seconds until an assignment is sent for the second time; doubled each time, times a random number in [0.5, 1.5)."""

LONGEST_WAIT = FIRST_WAIT * 2 ** (TRIES - 1) * 1.5
"""Seconds from one time that an assignment is sent to the next, or to its being moved aside."""

# Every gateway asks for these several times a second, so they are made once.
_TO_DO = select(work).where(work.c.gateway == bindparam("of_gateway"), work.c.next_try <= bindparam("now"))
_DUE = (
    _TO_DO.where(work.c.state.in_(("published", "sent"))).order_by(work.c.next_try).limit(bindparam("most"))
)
_OVER = _TO_DO.where(work.c.state.not_in(OPEN)).limit(1000)
_DUE_LOCKED, _OVER_LOCKED = (
    query.with_for_update(key_share=True, skip_locked=True) for query in (_DUE, _OVER)
)
_ACCEPT = (
    update(work)
    .where(
        work.c.tenant == bindparam("of_tenant"),
        work.c.assignment == bindparam("of_assignment"),
        work.c.client == bindparam("of_client"),
        work.c.state.in_(("published", "sent")),
    )
    .values(state="accepted", next_try=None)
)


@dataclass(frozen=True)
class Due:
    """An assignment to send now.

    Attributes:
        plan, weights: digests; `plan_bytes`, `weights_bytes`: how many there are of each.
        update_bytes: how many the update has; None where none is asked for.
    """

    session: str
    tenant: str
    round: str
    client: str
    assignment: str
    order: str
    plan: str
    plan_bytes: int
    weights: str
    weights_bytes: int
    update_bytes: int | None
    seconds_left: float
    share: float
    trace: str | None


def open_round(
    registry: Registry,
    tenant: str,
    round: str,
    request: RoundRequest,
    now: float,
    actor: str = "coordinator",
) -> RoundStatus:
    """Open a round and publish its work; where there is one of this id, it stays as it is.

    Args:
        actor: who asks for it, for the audit log.

    Raises:
        GatewayError: a client twice, one that is not enrolled, a goal above the cohort, a plan or weights that are not
            stored, or more open rounds than the tenant may have.
    """

    def opened(connection: Connection) -> RoundStatus:
        opening.publish(connection, tenant, round, request, now, actor)
        return aggregation.standing(connection, tenant, round)

    return registry.run(opened)


def to_do(connection: Connection, gateway: str, now: float) -> tuple[bool, bool]:
    """Whether `due` has something for a gateway, and whether `cancels` has; neither is called in vain then."""
    asked = {"of_gateway": gateway, "now": now}
    is_due = connection.execute(_DUE, {**asked, "most": 1}).first() is not None
    return is_due, connection.execute(_OVER, asked).first() is not None


def due(registry: Registry, gateway: str, now: float, limit: int = 100) -> list[Due]:
    """Assignments to send to clients with a session on `gateway`; each is marked as sent, with the time of its next try.

    Those that were sent for the last time, and not accepted, are moved aside. A power failure may take the marks back:
    then they are sent again.
    """
    asked = {"of_gateway": gateway, "now": now, "most": limit}

    def sent(connection: Connection) -> tuple[list[Due], list[Row[Any]]]:
        # Rows that somebody else holds just now are for the next poll.
        rows = connection.execute(_DUE_LOCKED, asked).all()
        given_up = [row for row in rows if row.attempts >= TRIES]
        rows = [row for row in rows if row.attempts < TRIES]
        if not rows:
            return [], given_up
        values = [
            {"state": "sent", "attempts": row.attempts + 1, "next_try": _next_try(row, now)} for row in rows
        ]
        update_each(
            connection, work, KEY, [_key(row) | value for row, value in zip(rows, values, strict=True)]
        )
        return _dues(connection, rows, now), given_up

    dues, given_up = registry.run(sent, durable=False)
    for row in given_up:
        registry.run(lambda connection, row=row: _set_aside(connection, row, now))  # type: ignore[misc]
    return dues


def accept(registry: Registry, tenant: str, client: str, assignment: str, now: float) -> Received:
    """Note that a client has its assignment, and works on it."""

    def accepted(connection: Connection) -> Received:
        mine = {"of_tenant": tenant, "of_client": client, "of_assignment": assignment}
        if connection.execute(_ACCEPT, mine).rowcount:
            return received(assignment, "accept", "kept")
        held = find(connection, tenant, client, assignment)
        if held is None:
            return received(assignment, "accept", "refused", "it is not yours")
        if held.state in ("accepted", "reported", "failed"):
            return received(assignment, "accept", "kept")
        if held.state == "declined":
            return received(assignment, "accept", "refused", "you declined it")
        return received(assignment, "accept", "late", held.message)

    return registry.run(accepted)


def decline(
    registry: Registry, tenant: str, client: str, assignment: str, reason: str, now: float
) -> Received:
    """Note that a client does not work on its assignment: a failure report."""

    def declined(connection: Connection) -> Received:
        found = find(connection, tenant, client, assignment)
        if found is None:
            return received(assignment, "decline", "refused", "it is not yours")
        round = round_of(connection, tenant, found.round)
        held = take(connection, tenant, found.round, client)
        if held is not None and held.state in OPEN:
            end(connection, round, client, "declined", now, reason)
            return received(assignment, "decline", "kept")
        if held is not None and held.state == "declined":
            return received(assignment, "decline", "kept")
        if held is not None and held.state in ("reported", "failed"):
            return received(assignment, "decline", "refused", "you reported on it")
        return received(assignment, "decline", "late", "" if held is None else held.message)

    return registry.run(declined)


def cancels(registry: Registry, gateway: str, now: float) -> list[tuple[str, str]]:
    """Sessions on `gateway` with assignments that nobody waits for any more, each told once.

    A client that misses it learns of it when it connects again.
    """

    def told(connection: Connection) -> list[tuple[str, str]]:
        rows = connection.execute(_OVER_LOCKED, {"of_gateway": gateway, "now": now}).all()
        update_each(connection, work, KEY, [_key(row) | {"next_try": None} for row in rows])
        found = _sessions(connection, rows)
        return [
            (found[row.tenant, row.client], row.assignment)
            for row in rows
            if (row.tenant, row.client) in found
        ]

    return registry.run(told, durable=False)


def set_right(registry: Registry, gateway: str, now: float) -> int:
    """Make due what a clock that was set back would leave waiting for longer than anything waits; how many."""
    lost = (work.c.gateway == gateway, work.c.next_try > now + LONGEST_WAIT)
    if not registry.read(lambda connection: connection.execute(select(work.c.client).where(*lost)).first()):
        return 0
    soon = update(work).where(*lost).values(next_try=now)
    return registry.run(lambda connection: connection.execute(soon).rowcount)


def expire(registry: Registry, now: float) -> int:
    """Close the rounds that are past their deadline; how many."""
    query = select(rounds.c.tenant, rounds.c.round).where(rounds.c.state == "open", rounds.c.deadline <= now)
    over = registry.read(lambda connection: connection.execute(query).all())

    def expired(connection: Connection, tenant: str, round: str) -> None:
        if round_of(connection, tenant, round).state == "open":
            close(connection, tenant, round, "late", AFTER_DEADLINE, now)

    for tenant, round in over:
        registry.run(lambda connection, key=(tenant, round): expired(connection, *key))  # type: ignore[misc]
    return len(over)


def _sessions(connection: Connection, rows: Sequence[Row[Any]]) -> dict[tuple[str, str], str]:
    """The session of each row's client."""
    found = {}
    for tenant in sorted({row.tenant for row in rows}):
        theirs = sorted({row.client for row in rows if row.tenant == tenant})
        for some in chunks(theirs):
            query = select(clients.c.client, clients.c.session).where(
                clients.c.tenant == tenant, clients.c.client.in_(some), clients.c.gateway.is_not(None)
            )
            found.update({(tenant, row.client): row.session for row in connection.execute(query)})
    return found


def _dues(connection: Connection, rows: Sequence[Row[Any]], now: float) -> list[Due]:
    sessions = _sessions(connection, rows)
    opened = {}
    for tenant, round in sorted({(row.tenant, row.round) for row in rows}):
        key = (rounds.c.tenant == tenant, rounds.c.round == round)
        opened[tenant, round] = connection.execute(select(rounds).where(*key)).one()
    found = []
    for row in rows:
        round_row = opened[row.tenant, row.round]
        if (row.tenant, row.client) in sessions and round_row.deadline > now:
            found.append(
                Due(
                    session=sessions[row.tenant, row.client],
                    tenant=row.tenant,
                    round=row.round,
                    client=row.client,
                    assignment=row.assignment,
                    order=round_row.envelope,
                    plan=round_row.plan,
                    plan_bytes=round_row.plan_bytes,
                    weights=round_row.weights,
                    weights_bytes=round_row.weights_bytes,
                    update_bytes=round_row.update_bytes,
                    seconds_left=round_row.deadline - now,
                    share=row.share,
                    trace=round_row.trace,
                )
            )
    return found


def _set_aside(connection: Connection, row: Row[Any], now: float) -> None:
    round = round_of(connection, row.tenant, row.round)
    held = take(connection, row.tenant, row.round, row.client)
    if held is not None and held.state == "sent" and held.attempts >= TRIES:
        end(connection, round, row.client, "aside", now, f"it did not answer, and was asked {TRIES} times")


def _next_try(row: Row[Any], now: float) -> float:
    return now + FIRST_WAIT * 2**row.attempts * random.uniform(0.5, 1.5)


def _key(row: Row[Any]) -> dict[str, Any]:
    return {name: row._mapping[name] for name in KEY}
