"""Aggregation: reports are kept in order, and a round's coordinator reads them until it is over."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.functions import evaluation
from fededge.fleet.functions.blobs import size_of
from fededge.fleet.functions.participation import count_participation
from fededge.fleet.functions.standing import item_of, report_of, status_of
from fededge.fleet.functions.work import (
    AFTER_DEADLINE,
    OPEN,
    end,
    find,
    no_round,
    received,
    round_of,
    take,
)
from fededge.fleet.functions.work import close as close_work
from fededge.fleet.registry import audit, tables
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.pages import LARGEST, page
from fededge.fleet.registry.tables import work
from fededge.protocol import (
    CloseRequest,
    Page,
    QueueItem,
    Received,
    ReportMessage,
    Reports,
    RoundStatus,
    UploadRequest,
)

ASKED = {"train": "update", "evaluate": "counts", "ranges": "ranges"}
"""What a client reports, by the kind of a round."""

# Every update passes through these, so they are made once.
_ROUND = select(tables.rounds).where(
    tables.rounds.c.tenant == bindparam("tenant"), tables.rounds.c.round == bindparam("round")
)
_REPORTS = (
    select(work)
    .where(
        work.c.tenant == bindparam("tenant"),
        work.c.round == bindparam("round"),
        work.c.ordinal > bindparam("after"),
    )
    .order_by(work.c.ordinal)
    .limit(bindparam("most"))
)
_MOVED = (
    update(tables.rounds)
    .where(tables.rounds.c.tenant == bindparam("of_tenant"), tables.rounds.c.round == bindparam("of_round"))
    .values(
        bytes_up=tables.rounds.c.bytes_up + bindparam("up"),
        bytes_down=tables.rounds.c.bytes_down + bindparam("down"),
    )
)


@dataclass(frozen=True)
class Reported:
    """What a client is told of its report, and the round that it belongs to, if it has one."""

    answer: Received
    round: str | None = None


def expected(registry: Registry, tenant: str, client: str, request: UploadRequest, now: float) -> str:
    """The round for which a client may upload an update of these bytes.

    Raises:
        GatewayError: nobody waits for it, or it has another size than every update of this model.
    """

    def checked(connection: Connection) -> str:
        held = find(connection, tenant, client, request.assignment)
        if held is None:
            raise GatewayError(
                f"no assignment {shown(request.assignment)} of this client", "NO_ASSIGNMENT", 404
            )
        round = connection.execute(_ROUND, {"tenant": tenant, "round": held.round}).one()
        if held.state not in OPEN or round.deadline <= now:
            raise GatewayError("nobody waits for this update any more", "LATE", 409)
        if round.update_bytes is None:
            raise GatewayError(f"a round that asks for {ASKED[round.kind]} takes no update", "NO_UPDATE", 400)
        if request.bytes != round.update_bytes:
            raise GatewayError(
                f"an update of {request.bytes:,} bytes, where this model's have {round.update_bytes:,}",
                "SIZE",
                413,
            )
        return str(held.round)

    return registry.read(checked)


def report(
    registry: Registry,
    tenant: str,
    client: str,
    message: ReportMessage,
    now: float,
    sent: bool = True,
    passed_by: bool = False,
) -> Reported:
    """Keep what a client reported; reporting again changes nothing.

    Args:
        sent: whether the update that it names, if it names one, lies in the store.
        passed_by: whether bytes pass the gateway by: then they are counted as the report tells of them.
    """

    def kept(connection: Connection) -> Reported:
        found = find(connection, tenant, client, message.assignment)
        if found is None:
            return Reported(received(message.assignment, "report", "refused", "it is not yours"))
        round = round_of(connection, tenant, found.round)
        if round.state == "open" and round.deadline <= now:
            close_work(connection, tenant, found.round, "late", AFTER_DEADLINE, now)
        held = take(connection, tenant, found.round, client)
        if held is None or held.state not in OPEN:
            return Reported(_again(message, held), found.round)
        wrong = _mistake(connection, round, client, message, sent)
        if wrong:
            return Reported(received(message.assignment, "report", "refused", wrong), found.round)
        failed = message.failure is not None
        end(
            connection,
            round,
            client,
            "failed" if failed else "reported",
            now,
            message.failure or "",
            update_digest=None if failed else message.update,
            counts=None if failed else message.counts,
            ranges=None if failed else message.ranges,
            seconds=message.seconds,
        )
        if passed_by:
            _count_told(connection, round, message, client)
        return Reported(received(message.assignment, "report", "kept"), found.round)

    return registry.run(kept)


def trace_of(registry: Registry, tenant: str, round: str | None) -> str | None:
    """The trace that a round belongs to (W3C Trace Context), if there is one."""
    mine = {"tenant": tenant, "round": round}
    row = registry.read(lambda connection: connection.execute(_ROUND, mine).one_or_none())
    return None if row is None else row.trace


def reports(registry: Registry, tenant: str, round: str, after: int) -> Reports:
    """A round's reports after the one of ordinal `after`, at most 1,000.

    Raises:
        GatewayError: no such round.
    """
    asked = {"tenant": tenant, "round": round, "after": after, "most": LARGEST}

    def found(connection: Connection) -> Reports:
        # Whether it is open is asked first: so what comes later is not missed.
        shown = _shown(connection, tenant, round)
        rows = connection.execute(_REPORTS, asked).all()
        more = shown.state == "open" or len(rows) == LARGEST
        status = None if more else status_of(connection, shown)
        return Reports(items=[report_of(row) for row in rows], open=more, status=status)

    return registry.read(found)


def status(registry: Registry, tenant: str, round: str) -> RoundStatus:
    """How a round stands.

    Raises:
        GatewayError: no such round.
    """
    return registry.read(lambda connection: standing(connection, tenant, round))


def standing(connection: Connection, tenant: str, round: str) -> RoundStatus:
    """As `status`, within a transaction."""
    return status_of(connection, _shown(connection, tenant, round))


def rounds(
    registry: Registry,
    tenant: str,
    task: str | None = None,
    state: str | None = None,
    after: str = "",
    limit: int = 100,
) -> Page[RoundStatus]:
    """Rounds in the order of their ids, after `after`."""
    query = select(tables.rounds).where(tables.rounds.c.tenant == tenant)
    if task is not None:
        query = query.where(tables.rounds.c.task == task)
    if state is not None:
        query = query.where(tables.rounds.c.state == state)

    def found(connection: Connection) -> Page[RoundStatus]:
        rows, following = page(connection, query, tables.rounds.c.round, after, limit)
        return Page[RoundStatus](items=[status_of(connection, row) for row in rows], next=following)

    return registry.read(found)


def queue(registry: Registry, tenant: str, round: str, after: str = "", limit: int = 100) -> Page[QueueItem]:
    """The parts of a round in the order of its clients, after `after`.

    Raises:
        GatewayError: no such round.
    """
    query = select(work).where(work.c.tenant == tenant, work.c.round == round)

    def found(connection: Connection) -> Page[QueueItem]:
        _shown(connection, tenant, round)
        rows, following = page(connection, query, work.c.client, after, limit)
        return Page[QueueItem](items=[item_of(row) for row in rows], next=following)

    return registry.read(found)


def close(
    registry: Registry,
    tenant: str,
    round: str,
    request: CloseRequest,
    now: float,
    actor: str = "coordinator",
) -> RoundStatus:
    """Close a round where it is open, and note what came of it, once that is known.

    Saying the same again changes nothing. A committed round that trained counts for each client whose report it had; of
    one that evaluated, the metrics are kept.

    Raises:
        GatewayError: no such round, or another outcome was told before.
    """

    def closed(connection: Connection) -> RoundStatus:
        held = round_of(connection, tenant, round)
        if held.state == "closed" and request.outcome in (held.outcome, None):
            return status_of(connection, held)
        if held.outcome is not None:
            raise GatewayError(f"round {shown(round)} is {held.outcome} already", "CLOSED", 409)
        if held.state == "open":
            close_work(connection, tenant, round, "canceled", "its coordinator closed the round", now)
        connection.execute(
            update(tables.rounds)
            .where(tables.rounds.c.tenant == tenant, tables.rounds.c.round == round)
            .values(outcome=request.outcome, reason=request.reason)
        )
        if request.outcome == "committed" and held.kind == "train":
            count_participation(connection, held, request.losses, now)
        if request.outcome == "committed" and held.kind == "evaluate":
            evaluation.keep(connection, tenant, held.task, round, now)
        details = {"outcome": request.outcome, "reason": request.reason}
        audit.append(connection, tenant, actor, "round.close", round, details, now)
        return standing(connection, tenant, round)

    return registry.run(closed)


def moved(registry: Registry, tenant: str, round: str, up: int = 0, down: int = 0) -> None:
    """Count bytes that clients sent (`up`) or fetched (`down`) for a round."""
    counted = {"of_tenant": tenant, "of_round": round, "up": up, "down": down}
    registry.run(lambda connection: connection.execute(_MOVED, counted))


def _count_told(connection: Connection, round: Row[Any], message: ReportMessage, client: str) -> None:
    """Count the bytes that a report tells of: no more came down than plan and weights have."""
    up = 0 if message.update is None else size_of(connection, round.tenant, message.update, client) or 0
    down = min(message.fetched, round.plan_bytes + round.weights_bytes)
    key = {"of_tenant": round.tenant, "of_round": round.round}
    connection.execute(_MOVED, {**key, "up": up, "down": down})


def _shown(connection: Connection, tenant: str, round: str) -> Row[Any]:
    """A round, not locked."""
    row = connection.execute(_ROUND, {"tenant": tenant, "round": round}).one_or_none()
    if row is None:
        raise no_round(round)
    return row


def _mistake(
    connection: Connection, round: Row[Any], client: str, message: ReportMessage, sent: bool
) -> str | None:
    """Why a report is not what the round asks for; None where it is."""
    said = [name for name in (*ASKED.values(), "failure") if getattr(message, name) is not None]
    if said == ["failure"]:
        return None
    if said != [ASKED[round.kind]]:
        return f"asked for {ASKED[round.kind]}, and got {' and '.join(said) or 'nothing'}"
    if message.update is None:
        return None
    size = size_of(connection, round.tenant, message.update, client)
    if size is None or not sent:
        return "its update is not stored: upload it first"
    if round.update_bytes is not None and size != round.update_bytes:
        return f"an update of {size:,} bytes, where this model's have {round.update_bytes:,}"
    return None


def _again(message: ReportMessage, held: Row[Any] | None) -> Received:
    if held is not None and held.state in ("reported", "failed"):
        return received(message.assignment, "report", "kept")
    if held is not None and held.state == "declined":
        return received(message.assignment, "report", "refused", "you declined it")
    return received(message.assignment, "report", "late", "" if held is None else held.message)
