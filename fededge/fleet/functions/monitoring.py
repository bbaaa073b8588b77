"""Who is there: sessions of clients on gateways, and leases of gateways.

A client has one open session at most. A session that ends anywhere else than on its gateway (its client was revoked, came
back through another connection, or was not heard of for three heartbeats) stays marked until its gateway ended the
connection.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, delete, func, insert, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.functions.work import KEY, OPEN
from fededge.fleet.registry.database import Registry, add, chunks, locked, update_each
from fededge.fleet.registry.tables import clients, datasets, gateways, rounds, sessions, work
from fededge.protocol import Hello

HEARTBEATS = 3
"""Heartbeats that may be missed."""
GRACE_SECONDS = 30.0
"""For which some gateway must have held its lease without a break, and a gateway none, before sessions are swept."""

_ENDED = select(sessions.c.id).where(sessions.c.gateway == bindparam("of_gateway"), sessions.c.ended)
_LIVE = select(gateways.c.id).where(gateways.c.expires > bindparam("now"))


@dataclass(frozen=True)
class Connected:
    """A client's new session.

    Attributes:
        resumed: whether it is the one that the client asked for.
        forget: assignments that the client still works on, and nobody waits for.
        region: of the client.
    """

    session: str
    resumed: bool
    forget: list[str]
    region: str | None = None


def key_of(registry: Registry, tenant: str, client: str) -> bytes | None:
    """The public key of an active client: Ed25519, 32 bytes."""
    query = select(clients.c.public_key).where(
        clients.c.tenant == tenant, clients.c.client == client, clients.c.state == "active"
    )
    key = registry.read(lambda connection: connection.execute(query).scalar_one_or_none())
    return None if key is None else bytes.fromhex(key)


def connect(
    registry: Registry, gateway: str, hello: Hello, heartbeat_seconds: float, now: float
) -> Connected:
    """Open a session for a client whose proof was checked; the one that it had elsewhere ends.

    Its accepted work is sent again where the client does not know of it any more.

    Raises:
        GatewayError: no such client, or it was revoked.
    """
    fresh = secrets.token_hex(16)

    def opened(connection: Connection) -> Connected:
        client = connection.execute(
            locked(select(clients).where(clients.c.tenant == hello.tenant, clients.c.client == hello.client))
        ).one_or_none()
        if client is None or client.state != "active":
            raise GatewayError(f"client {shown(hello.client)} is not enrolled: enroll it", "REVOKED", 403)
        theirs = (sessions.c.tenant == hello.tenant, sessions.c.client == hello.client)
        before = set(connection.execute(select(sessions.c.id).where(*theirs)).scalars())
        if before:
            connection.execute(delete(sessions).where(sessions.c.id == fresh))  # this, repeated
            connection.execute(update(sessions).where(*theirs).values(ended=True))
        resumed = hello.resume is not None and hello.resume == client.session and hello.resume not in before
        session = hello.resume if resumed and hello.resume else fresh
        connection.execute(
            insert(sessions).values(
                id=session,
                tenant=hello.tenant,
                client=hello.client,
                gateway=gateway,
                opened=now,
                last_seen=now,
                heartbeat_seconds=heartbeat_seconds,
                expires=now + HEARTBEATS * heartbeat_seconds,
                ended=False,
            )
        )
        connection.execute(
            update(clients)
            .where(clients.c.tenant == hello.tenant, clients.c.client == hello.client)
            .values(
                session=session,
                gateway=gateway,
                last_seen=now,
                software=hello.software,
                capabilities=hello.capabilities,
                conditions=hello.conditions,
            )
        )
        _keep_datasets(connection, gateway, hello, client.random_key)
        return Connected(session, resumed, _resume_work(connection, gateway, hello, now), client.region)

    return registry.run(opened)


def beat(registry: Registry, beats: Mapping[str, Mapping[str, str] | None], now: float) -> set[str]:
    """Note that sessions were heard of.

    Args:
        beats: the client's conditions by session; None where they did not change.

    Returns:
        Sessions whose connections are to be closed.
    """
    ids = sorted(beats)

    def heard(connection: Connection) -> set[str]:
        there: set[str] = set()
        for some in chunks(ids):
            mine = (sessions.c.id.in_(some), sessions.c.ended.is_(False))
            expires = now + HEARTBEATS * sessions.c.heartbeat_seconds
            connection.execute(update(sessions).where(*mine).values(last_seen=now, expires=expires))
            there.update(connection.execute(select(sessions.c.id).where(*mine)).scalars())
        return there

    there = registry.run(heard, durable=False)
    changed = {id: dict(said) for id in ids if id in there and (said := beats[id]) is not None}
    if changed:
        registry.run(lambda connection: _keep_conditions(connection, changed))
    return set(ids) - there


def disconnect(registry: Registry, session: str, now: float) -> None:
    """End a session whose connection is closed."""

    def ended(connection: Connection) -> None:
        row = connection.execute(select(sessions).where(sessions.c.id == session)).one_or_none()
        if row is not None:
            _leave(connection, row.tenant, row.client, session, now)
            connection.execute(delete(sessions).where(sessions.c.id == session))

    registry.run(ended)


def lease(registry: Registry, gateway: str, url: str, seconds: float, now: float) -> None:
    """Say that a gateway lives for `seconds` from now, and where it is reached."""
    mine = gateways.c.id == gateway
    since = case((gateways.c.expires <= now, now), else_=gateways.c.since)

    def renewed(connection: Connection) -> None:
        values = {"url": url, "expires": now + seconds}
        if not connection.execute(update(gateways).where(mine).values(since=since, **values)).rowcount:
            add(connection, gateways, {"id": gateway, "since": now, **values})

    registry.run(renewed)


def live_gateways(connection: Connection, now: float) -> list[str]:
    """Ids of the gateways that hold a lease."""
    return list(connection.execute(_LIVE, {"now": now}).scalars())


def ended_sessions(connection: Connection, gateway: str) -> list[str]:
    """Sessions on a gateway that ended elsewhere; each is told until `disconnect`."""
    return list(connection.execute(_ENDED, {"of_gateway": gateway}).scalars())


def work_by_state(registry: Registry) -> dict[str, int]:
    """How many parts of open rounds are in each state, over all tenants."""
    query = (
        select(work.c.state, func.count())
        .join(rounds, (rounds.c.tenant == work.c.tenant) & (rounds.c.round == work.c.round))
        .where(rounds.c.state == "open")
        .group_by(work.c.state)
    )
    rows = registry.read(lambda connection: connection.execute(query).all())
    return {str(state): int(count) for state, count in rows}


def sweep(registry: Registry, now: float) -> int:
    """End the sessions of gateways whose lease is over, and those that were not heard of for long; how many.

    Nobody is ended for what a registry missed that could not be reached: the silence has to go on for a while after it
    was there again.
    """

    def stale(connection: Connection) -> tuple[list[str], list[str]]:
        rows = connection.execute(select(gateways)).all()
        live = [row for row in rows if row.expires > now]
        if not any(row.since + GRACE_SECONDS <= now for row in live):
            return [], []
        dead = [row.id for row in rows if row.expires + GRACE_SECONDS <= now]
        found: list[str] = []
        for row in live:
            silent = (
                sessions.c.gateway == row.id,
                sessions.c.expires <= now,
                HEARTBEATS * sessions.c.heartbeat_seconds <= now - row.since,
                sessions.c.ended.is_(False),
            )
            found += connection.execute(select(sessions.c.id).where(*silent)).scalars()
        for gateway in dead:
            found += connection.execute(select(sessions.c.id).where(sessions.c.gateway == gateway)).scalars()
        return dead, found

    dead, found = registry.read(stale)
    for some in chunks(found):
        registry.run(lambda connection, some=some: _end_all(connection, some, dead, now))  # type: ignore[misc]
    empty = delete(gateways).where(
        gateways.c.id.in_(dead),
        gateways.c.expires <= now,
        ~select(sessions.c.id).where(sessions.c.gateway == gateways.c.id).exists(),
    )
    if dead:
        registry.run(lambda connection: connection.execute(empty))
    return len(found)


def end_session(connection: Connection, tenant: str, client: str, now: float) -> None:
    """End a client's session here; its gateway closes the connection within its next poll."""
    theirs = (sessions.c.tenant == tenant, sessions.c.client == client)
    session = connection.execute(
        locked(select(clients.c.session).where(clients.c.tenant == tenant, clients.c.client == client))
    ).scalar_one_or_none()
    if session is not None:
        _leave(connection, tenant, client, session, now)
    connection.execute(update(sessions).where(*theirs).values(ended=True))


def _end_all(connection: Connection, ids: list[str], dead: list[str], now: float) -> None:
    rows = connection.execute(
        select(sessions).where(sessions.c.id.in_(ids)).order_by(sessions.c.tenant, sessions.c.client)
    ).all()
    for row in rows:
        _leave(connection, row.tenant, row.client, row.id, now)
    connection.execute(delete(sessions).where(sessions.c.id.in_(ids), sessions.c.gateway.in_(dead)))
    connection.execute(update(sessions).where(sessions.c.id.in_(ids)).values(ended=True))


def _leave(connection: Connection, tenant: str, client: str, session: str, now: float) -> None:
    """The client is on no gateway any more, unless it has another session by now."""
    mine = (clients.c.tenant == tenant, clients.c.client == client)
    current = connection.execute(locked(select(clients.c.session).where(*mine))).scalar_one()
    if current != session:
        return
    connection.execute(update(clients).where(*mine).values(gateway=None, last_seen=now))
    connection.execute(
        update(datasets).where(datasets.c.tenant == tenant, datasets.c.client == client).values(gateway=None)
    )
    theirs = (work.c.tenant == tenant, work.c.client == client, work.c.state.in_(OPEN))
    connection.execute(update(work).where(*theirs).values(gateway=None))


def _keep_conditions(connection: Connection, changed: Mapping[str, Mapping[str, str]]) -> None:
    for some in chunks(list(changed)):
        rows = connection.execute(
            select(clients.c.tenant, clients.c.client, clients.c.session)
            .join(sessions, (sessions.c.tenant == clients.c.tenant) & (sessions.c.client == clients.c.client))
            .where(sessions.c.id.in_(some), sessions.c.id == clients.c.session)
            .order_by(clients.c.tenant, clients.c.client)
        ).all()
        for row in rows:
            connection.execute(
                update(clients)
                .where(clients.c.tenant == row.tenant, clients.c.client == row.client)
                .values(conditions=changed[row.session])
            )


def _keep_datasets(connection: Connection, gateway: str, hello: Hello, random_key: int) -> None:
    mine = (datasets.c.tenant == hello.tenant, datasets.c.client == hello.client)
    held = {each.name: each for each in hello.datasets}
    there = set(connection.execute(select(datasets.c.dataset).where(*mine)).scalars())
    if gone := there - held.keys():
        connection.execute(delete(datasets).where(*mine, datasets.c.dataset.in_(sorted(gone))))
    for name, each in sorted(held.items()):
        values = {
            "train": each.train,
            "test": each.test,
            "schema_digest": each.schema_digest,
            "frameworks": f" {' '.join(hello.frameworks)} ",
            "gateway": gateway,
        }
        if name in there:
            connection.execute(update(datasets).where(*mine, datasets.c.dataset == name).values(values))
        else:
            key = {"tenant": hello.tenant, "dataset": name, "client": hello.client, "random_key": random_key}
            connection.execute(insert(datasets).values({**key, **values}))


def _resume_work(connection: Connection, gateway: str, hello: Hello, now: float) -> list[str]:
    """Bring the client's work to its new session; the assignments that it may forget."""
    theirs = (work.c.tenant == hello.tenant, work.c.client == hello.client, work.c.state.in_(OPEN))
    rows = connection.execute(locked(select(work).where(*theirs))).all()
    working = set(hello.working)
    parts = []
    for row in rows:
        known = row.assignment in working
        state, next_try = ("accepted", None) if known else ("published", now)
        key = {name: row._mapping[name] for name in KEY}
        parts.append(key | {"gateway": gateway, "state": state, "next_try": next_try})
    update_each(connection, work, KEY, parts)
    return sorted(working - {row.assignment for row in rows})
