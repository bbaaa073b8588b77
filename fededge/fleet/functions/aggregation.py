"""Aggregation: reports are kept in order, and a round's coordinator reads them until it is over."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.functions.work import (
    AFTER_DEADLINE,
    FAILED,
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
from fededge.fleet.registry.database import Registry, update_each
from fededge.fleet.registry.pages import LARGEST, page
from fededge.fleet.registry.tables import blobs, clients, datasets, participation, work
from fededge.protocol import (
    CloseRequest,
    Page,
    QueueItem,
    Received,
    Report,
    ReportMessage,
    Reports,
    RoundStatus,
    UploadRequest,
)

WEIGHT = 0.5
"""Of the newest round in a client's speed."""
ASKED = {"train": "update", "evaluate": "counts", "ranges": "ranges"}
"""What a client reports, by the kind of a round."""


def expected(registry: Registry, tenant: str, client: str, request: UploadRequest, now: float) -> None:
    """That a client may upload an update of these bytes.

    Raises:
        GatewayError: nobody waits for it, or it has another size than every update of this model.
    """

    def checked(connection: Connection) -> None:
        held = find(connection, tenant, client, request.assignment)
        if held is None:
            raise GatewayError(
                f"no assignment {shown(request.assignment)} of this client", "NO_ASSIGNMENT", 404
            )
        key = (tables.rounds.c.tenant == tenant, tables.rounds.c.round == held.round)
        round = connection.execute(select(tables.rounds).where(*key)).one()
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

    registry.read(checked)


def report(
    registry: Registry, tenant: str, client: str, message: ReportMessage, now: float, sent: bool = True
) -> Received:
    """Keep what a client reported; reporting again changes nothing.

    Args:
        sent: whether the update that it names, if it names one, was sent by this client.
    """

    def kept(connection: Connection) -> Received:
        found = find(connection, tenant, client, message.assignment)
        if found is None:
            return received(message.assignment, "report", "refused", "it is not yours")
        round = round_of(connection, tenant, found.round)
        if round.state == "open" and round.deadline <= now:
            close_work(connection, tenant, found.round, "late", AFTER_DEADLINE, now)
        held = take(connection, tenant, found.round, client)
        if held is None or held.state not in OPEN:
            return _again(message, held)
        wrong = _mistake(connection, round, message, sent)
        if wrong:
            return received(message.assignment, "report", "refused", wrong)
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
        return received(message.assignment, "report", "kept")

    return registry.run(kept)


def reports(registry: Registry, tenant: str, round: str, after: int) -> Reports:
    """A round's reports after the one of ordinal `after`, at most 1,000.

    Raises:
        GatewayError: no such round.
    """
    items = (
        select(work)
        .where(work.c.tenant == tenant, work.c.round == round, work.c.ordinal > after)
        .order_by(work.c.ordinal)
        .limit(LARGEST)
    )

    def found(connection: Connection) -> Reports:
        opened = _state(connection, tenant, round) == "open"  # asked first: what comes later is not missed
        rows = connection.execute(items).all()
        return Reports(items=[_report(row) for row in rows], open=opened or len(rows) == LARGEST)

    return registry.read(found)


def status(registry: Registry, tenant: str, round: str) -> RoundStatus:
    """How a round stands.

    Raises:
        GatewayError: no such round.
    """

    def found(connection: Connection) -> RoundStatus:
        row = connection.execute(
            select(tables.rounds).where(tables.rounds.c.tenant == tenant, tables.rounds.c.round == round)
        ).one_or_none()
        if row is None:
            raise no_round(round)
        return _status(connection, row)

    return registry.read(found)


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
        return Page[RoundStatus](items=[_status(connection, row) for row in rows], next=following)

    return registry.read(found)


def queue(registry: Registry, tenant: str, round: str, after: str = "", limit: int = 100) -> Page[QueueItem]:
    """The parts of a round in the order of its clients, after `after`.

    Raises:
        GatewayError: no such round.
    """
    query = select(work).where(work.c.tenant == tenant, work.c.round == round)

    def found(connection: Connection) -> Page[QueueItem]:
        _state(connection, tenant, round)
        rows, following = page(connection, query, work.c.client, after, limit)
        items = [
            QueueItem(
                assignment=row.assignment,
                round=row.round,
                client=row.client,
                state=row.state,
                attempts=row.attempts,
                next_try=row.next_try if row.state in OPEN else None,
                message=row.message,
            )
            for row in rows
        ]
        return Page[QueueItem](items=items, next=following)

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

    Saying the same again changes nothing. A committed round that trained counts for each client whose report it had.

    Raises:
        GatewayError: no such round, or another outcome was told before.
    """

    def closed(connection: Connection) -> None:
        held = round_of(connection, tenant, round)
        if held.state == "closed" and request.outcome in (held.outcome, None):
            return
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
            _count_participation(connection, held, request.losses, now)
        details = {"outcome": request.outcome, "reason": request.reason}
        audit.append(connection, tenant, actor, "round.close", round, details, now)

    registry.run(closed)
    return status(registry, tenant, round)


def moved(registry: Registry, tenant: str, of: str, up: int = 0, down: int = 0) -> None:
    """Count bytes that clients sent (`up`) or fetched (`down`) for a round.

    Args:
        of: the round, or an assignment in it.
    """

    def counted(connection: Connection) -> None:
        found = connection.execute(
            select(work.c.round).where(work.c.tenant == tenant, work.c.assignment == of)
        ).scalar_one_or_none()
        connection.execute(
            update(tables.rounds)
            .where(tables.rounds.c.tenant == tenant, tables.rounds.c.round == (found or of))
            .values(bytes_up=tables.rounds.c.bytes_up + up, bytes_down=tables.rounds.c.bytes_down + down)
        )

    registry.run(counted)


def _state(connection: Connection, tenant: str, round: str) -> str:
    key = (tables.rounds.c.tenant == tenant, tables.rounds.c.round == round)
    state = connection.execute(select(tables.rounds.c.state).where(*key)).scalar_one_or_none()
    if state is None:
        raise no_round(round)
    return str(state)


def _mistake(connection: Connection, round: Row[Any], message: ReportMessage, sent: bool) -> str | None:
    """Why a report is not what the round asks for; None where it is."""
    said = [name for name in (*ASKED.values(), "failure") if getattr(message, name) is not None]
    if said == ["failure"]:
        return None
    if said != [ASKED[round.kind]]:
        return f"asked for {ASKED[round.kind]}, and got {' and '.join(said) or 'nothing'}"
    if message.update is None:
        return None
    query = select(blobs.c.bytes).where(blobs.c.tenant == round.tenant, blobs.c.digest == message.update)
    size = connection.execute(query).scalar_one_or_none()
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


def _report(row: Row[Any]) -> Report:
    failure = row.message if row.state in FAILED else None
    return Report(
        ordinal=row.ordinal,
        client=row.client,
        update=row.update_digest,
        counts=row.counts,
        ranges=row.ranges,
        failure=failure,
        seconds=row.seconds,
    )


def _status(connection: Connection, row: Row[Any]) -> RoundStatus:
    parts = connection.execute(
        select(work.c.client, work.c.state, work.c.message)
        .where(work.c.tenant == row.tenant, work.c.round == row.round)
        .order_by(work.c.client)
    ).all()
    return RoundStatus(
        round=row.round,
        task=row.task,
        kind=row.kind,
        number=row.number,
        state=row.state,
        outcome=row.outcome,
        reason=row.reason,
        cohort=[part.client for part in parts],
        goal=row.goal,
        reported=row.reported,
        failed=row.failed,
        waiting=row.waiting,
        failures={part.client: part.message for part in parts if part.state in (*FAILED, "late")},
        opened=row.opened,
        deadline=row.deadline,
        closed=row.closed,
        bytes_down=row.bytes_down,
        bytes_up=row.bytes_up,
        client_seconds=row.client_seconds,
    )


def _count_participation(
    connection: Connection, round: Row[Any], losses: Mapping[str, float], now: float
) -> None:
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
