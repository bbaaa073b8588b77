"""WebSockets that no process holds: what a function has to know of one when the next message comes over it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from fededge.fleet.registry.database import Registry, add, locked
from fededge.fleet.registry.tables import connections


@dataclass(frozen=True)
class Held:
    """A connection.

    Attributes:
        gateway: that its challenge named.
        session, tenant, client: None until it is welcome.
    """

    id: str
    gateway: str
    session: str | None
    tenant: str | None
    client: str | None


def opened(registry: Registry, connection: str, gateway: str, nonce: str, now: float) -> None:
    """Note a connection, whose challenge has this nonce (base64)."""
    row = {"id": connection, "gateway": gateway, "nonce": nonce, "opened": now, "refused_since": now}
    registry.run(lambda transaction: add(transaction, connections, row))


def get(registry: Registry, connection: str) -> Held | None:
    """A connection; None where it is not known, or closed."""
    row = registry.read(lambda transaction: transaction.execute(_one(connection)).one_or_none())
    return None if row is None else _held(row)


def challenge(registry: Registry, connection: str) -> str | None:
    """The nonce that nobody has answered yet; None where there is none."""
    row = registry.read(lambda transaction: transaction.execute(_one(connection)).one_or_none())
    return None if row is None else row.nonce


def answered(registry: Registry, connection: str) -> str | None:
    """Take the nonce of a connection: whoever calls first alone gets it."""

    def taken(transaction: Connection) -> str | None:
        row = transaction.execute(locked(_one(connection))).one_or_none()
        if row is None or row.nonce is None:
            return None
        _change(transaction, connection, nonce=None)
        return str(row.nonce)

    return registry.run(taken)


def welcomed(registry: Registry, connection: str, session: str, tenant: str, client: str) -> None:
    """Note whose connection it is."""
    registry.run(
        lambda transaction: _change(transaction, connection, session=session, tenant=tenant, client=client)
    )


def refused(registry: Registry, connection: str, seconds: float, now: float) -> int:
    """Count a message that was refused; how many there were within `seconds`."""

    def counted(transaction: Connection) -> int:
        row = transaction.execute(locked(_one(connection))).one_or_none()
        if row is None:
            return 0
        fresh = now - row.refused_since > seconds
        count = 1 if fresh else row.refused + 1
        _change(transaction, connection, refused=count, refused_since=now if fresh else row.refused_since)
        return count

    return registry.run(counted)


def closed(registry: Registry, connection: str) -> None:
    """Forget a connection."""
    gone = delete(connections).where(connections.c.id == connection)
    registry.run(lambda transaction: transaction.execute(gone))


def of_session(registry: Registry, session: str) -> str | None:
    """The connection of a session; None where there is none."""
    query = (
        select(connections.c.id).where(connections.c.session == session).order_by(connections.c.opened.desc())
    )
    return registry.read(lambda transaction: transaction.execute(query).scalars().first())


def silent(registry: Registry, gateway: str, before: float, limit: int = 1000) -> list[str]:
    """Connections that were opened before a time, and are not welcome yet."""
    query = (
        select(connections.c.id)
        .where(
            connections.c.gateway == gateway, connections.c.opened < before, connections.c.session.is_(None)
        )
        .limit(limit)
    )
    return registry.read(lambda transaction: list(transaction.execute(query).scalars()))


def _one(connection: str) -> Any:
    return select(connections).where(connections.c.id == connection)


def _change(transaction: Connection, connection: str, **values: Any) -> None:
    transaction.execute(update(connections).where(connections.c.id == connection).values(**values))


def _held(row: Row[Any]) -> Held:
    return Held(row.id, row.gateway, row.session, row.tenant, row.client)
