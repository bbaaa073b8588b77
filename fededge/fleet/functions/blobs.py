"""Which bytes a tenant has stored: plans, weights and updates, by digest. The bytes themselves lie in the blob store."""

from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from fededge.errors import GatewayError
from fededge.fleet.registry.database import Registry, add, locked
from fededge.fleet.registry.tables import blobs, tenants


def known(registry: Registry, tenant: str, digest: str) -> int | None:
    """Size of a blob in bytes; None where the tenant has none of this digest."""
    query = select(blobs.c.bytes).where(blobs.c.tenant == tenant, blobs.c.digest == digest)
    return registry.read(lambda connection: connection.execute(query).scalar_one_or_none())


def allowed(registry: Registry, tenant: str, bytes: int) -> None:
    """That a tenant may store so many bytes more.

    Raises:
        GatewayError: it may not.
    """
    query = select(tenants).where(tenants.c.name == tenant)
    _check(registry.read(lambda connection: connection.execute(query).one_or_none()), tenant, bytes)


def stored(registry: Registry, tenant: str, digest: str, bytes: int, now: float) -> None:
    """Note that a blob lies in the store; noting it again changes nothing.

    Raises:
        GatewayError: the tenant would have more stored than it may.
    """

    def noted(connection: Connection) -> None:
        there = select(blobs.c.digest).where(blobs.c.tenant == tenant, blobs.c.digest == digest)
        quota = connection.execute(locked(select(tenants).where(tenants.c.name == tenant))).one_or_none()
        if connection.execute(there).one_or_none() is not None:
            return
        _check(quota, tenant, bytes)
        add(connection, blobs, {"tenant": tenant, "digest": digest, "bytes": bytes, "stored": now})
        _add(connection, tenant, bytes)

    registry.run(noted)


def removed(registry: Registry, tenant: str, digest: str) -> None:
    """Note that a blob was deleted from the store."""
    mine = (blobs.c.tenant == tenant, blobs.c.digest == digest)

    def noted(connection: Connection) -> None:
        connection.execute(locked(select(tenants).where(tenants.c.name == tenant)))
        size = connection.execute(select(blobs.c.bytes).where(*mine)).scalar_one_or_none()
        if size is not None:
            connection.execute(delete(blobs).where(*mine))
            _add(connection, tenant, -size)

    registry.run(noted)


def _check(quota: Row[Any] | None, tenant: str, bytes: int) -> None:
    if quota is None:
        raise GatewayError(f"no tenant {tenant}: make it first", "NO_TENANT", 404)
    if quota.bytes is not None and quota.stored_bytes + bytes > quota.bytes:
        raise GatewayError(
            f"tenant {tenant} may store {quota.bytes:,} bytes, and has {quota.stored_bytes:,} and {bytes:,} more to "
            "store: raise its quota",
            "QUOTA",
            413,
        )


def _add(connection: Connection, tenant: str, bytes: int) -> None:
    connection.execute(
        update(tenants).where(tenants.c.name == tenant).values(stored_bytes=tenants.c.stored_bytes + bytes)
    )
