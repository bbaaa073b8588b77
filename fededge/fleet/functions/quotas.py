"""What a tenant may have at most: clients, open rounds, stored bytes.

Each is counted with the tenant's row locked, so that many at once do not exceed it together.
"""

from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.registry.database import locked
from fededge.fleet.registry.tables import rounds, tenants

_TENANT = select(tenants).where(tenants.c.name == bindparam("tenant"))
_TENANT_LOCKED = locked(_TENANT)


def tenant_of(connection: Connection, tenant: str, lock: bool = True) -> Row[Any]:
    """A tenant, locked unless it is only looked at.

    Raises:
        GatewayError: there is no such tenant.
    """
    row = connection.execute(_TENANT_LOCKED if lock else _TENANT, {"tenant": tenant}).one_or_none()
    if row is None:
        raise GatewayError(f"no tenant {shown(tenant)}: make it first", "NO_TENANT", 404)
    return row


def count_client(connection: Connection, tenant: str) -> None:
    """Count a new client.

    Raises:
        GatewayError: it is one too many.
    """
    held = tenant_of(connection, tenant)
    if held.clients is not None and held.enrolled >= held.clients:
        raise GatewayError(
            f"tenant {tenant} may have {held.clients} clients, and has: raise its quota", "QUOTA", 429
        )
    connection.execute(update(tenants).where(tenants.c.name == tenant).values(enrolled=held.enrolled + 1))


def check_open_rounds(connection: Connection, tenant: str) -> None:
    """That one more round may be open.

    Raises:
        GatewayError: it is one too many.
    """
    most = tenant_of(connection, tenant).open_rounds
    if most is None:
        return
    query = (
        select(func.count()).select_from(rounds).where(rounds.c.tenant == tenant, rounds.c.state == "open")
    )
    if connection.execute(query).scalar_one() >= most:
        raise GatewayError(
            f"tenant {tenant} may have {most} rounds open, and has: close one, or raise its quota",
            "QUOTA",
            429,
        )


def check_bytes(held: Row[Any], more: int) -> None:
    """That a tenant may store so many bytes more.

    Raises:
        GatewayError: they are too many.
    """
    if held.bytes is not None and held.stored_bytes + more > held.bytes:
        raise GatewayError(
            f"tenant {held.name} may store {held.bytes:,} bytes, and has {held.stored_bytes:,} and {more:,} more to "
            "store: raise its quota",
            "QUOTA",
            413,
        )
