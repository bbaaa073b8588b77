"""The state machine of a client's part in a round, which the functions around it share.

    published -> sent -> accepted -> reported
        any of these three -> declined | failed | aside (sent for the last time) | late (deadline) | canceled

Who changes work takes its round's row first, and the work's own row then: reports get ordinals without gaps, and the
round closes once.
"""

import hashlib
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, case, func, null, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.registry.database import locked
from fededge.fleet.registry.tables import rounds, work
from fededge.protocol import Received

OPEN = ("published", "sent", "accepted")
"""States of work that is waited for."""
AFTER_DEADLINE = "it did not report before the deadline"
FAILED = ("declined", "failed", "aside")
"""States that count as a failure report."""


KEY = ("tenant", "round", "client")


def received(
    assignment: str,
    of: Literal["accept", "decline", "report"],
    outcome: Literal["kept", "late", "refused"],
    message: str = "",
) -> Received:
    """The answer to what a client said of an assignment."""
    return Received(assignment=assignment, of=of, outcome=outcome, message=message)


# Every report passes through these, so they are made once.
_FIND = select(work).where(work.c.tenant == bindparam("tenant"), work.c.assignment == bindparam("assignment"))
_ROUND = locked(
    select(rounds).where(rounds.c.tenant == bindparam("tenant"), rounds.c.round == bindparam("round"))
)
_TAKE = locked(
    select(work).where(
        work.c.tenant == bindparam("tenant"),
        work.c.round == bindparam("round"),
        work.c.client == bindparam("client"),
    )
)
_END = update(work).where(
    work.c.tenant == bindparam("of_tenant"),
    work.c.round == bindparam("of_round"),
    work.c.client == bindparam("of_client"),
)
_COUNT = update(rounds).where(
    rounds.c.tenant == bindparam("of_tenant"), rounds.c.round == bindparam("of_round")
)


def assignment_id(tenant: str, round: str, client: str) -> str:
    """The id of a client's part in a round; the same whoever computes it."""
    key = f"fededge assignment\0{tenant}\0{round}\0{client}".encode()
    return hashlib.sha256(key).hexdigest()[:32]


def round_of(connection: Connection, tenant: str, round: str) -> Row[Any]:
    """A round, locked.

    Raises:
        GatewayError: there is no such round.
    """
    row = connection.execute(_ROUND, {"tenant": tenant, "round": round}).one_or_none()
    if row is None:
        raise no_round(round)
    return row


def no_round(round: str) -> GatewayError:
    """That a round is not there."""
    return GatewayError(f"no round {shown(round)}: open it first", "NO_ROUND", 404)


def find(connection: Connection, tenant: str, client: str, assignment: str) -> Row[Any] | None:
    """The work of an assignment, not locked; None where it is not this client's."""
    row = connection.execute(_FIND, {"tenant": tenant, "assignment": assignment}).one_or_none()
    return row if row is not None and row.client == client else None


def take(connection: Connection, tenant: str, round: str, client: str) -> Row[Any] | None:
    """The work of a client, locked; None where it has none in this round."""
    key = {"tenant": tenant, "round": round, "client": client}
    return connection.execute(_TAKE, key).one_or_none()


def end(
    connection: Connection,
    held: Row[Any],
    client: str,
    state: str,
    now: float,
    message: str = "",
    **result: Any,
) -> None:
    """Record how a client's open work ended, as the next report of its round, and close the round that needs no other.

    Args:
        held: the round, locked.
        state: reported or one of FAILED.
        result: further columns of the work.
    """
    good = int(state == "reported")
    key = {"of_tenant": held.tenant, "of_round": held.round}
    done = {"state": state, "ordinal": held.ordinal + 1, "next_try": None, "message": message, **result}
    connection.execute(_END, {**key, "of_client": client, **done})
    counts = {
        "ordinal": held.ordinal + 1,
        "reported": held.reported + good,
        "failed": held.failed + 1 - good,
        "waiting": held.waiting - 1,
        "client_seconds": held.client_seconds + result.get("seconds", 0.0),
    }
    connection.execute(_COUNT, {**key, **counts})
    if held.reported + good >= held.goal or held.waiting == 1:
        close(connection, held.tenant, held.round, "canceled", "the round has what it needs", now)


def close(connection: Connection, tenant: str, round: str, left: str, message: str, now: float) -> None:
    """Close an open, locked round.

    Args:
        left: state of the work that is left over: `late` after the deadline, which counts as failed, else `canceled`.
    """
    mine = (work.c.tenant == tenant, work.c.round == round, work.c.state.in_(OPEN))
    count = connection.execute(select(func.count()).select_from(work).where(*mine)).scalar_one()
    # Who was never told of its assignment, or is not there, need not be told that it is over.
    told = case((work.c.state == "published", null()), (work.c.gateway.is_(None), null()), else_=now)
    if count:
        connection.execute(update(work).where(*mine).values(state=left, next_try=told, message=message))
    connection.execute(
        update(rounds)
        .where(rounds.c.tenant == tenant, rounds.c.round == round)
        .values(
            state="closed",
            closed=now,
            waiting=0,
            failed=rounds.c.failed + (count if left == "late" else 0),
        )
    )
