"""Which bytes a tenant has stored: plans, weights and updates, by digest. The bytes themselves lie in the blob store."""

from sqlalchemy import Connection, delete, or_, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.functions.quotas import check_bytes, tenant_of
from fededge.fleet.registry.database import Registry, add
from fededge.fleet.registry.tables import blobs, rounds, tenants, work


def known(registry: Registry, tenant: str, digest: str) -> int | None:
    """Size of a blob in bytes; None where the tenant has none of this digest."""
    query = select(blobs.c.bytes).where(blobs.c.tenant == tenant, blobs.c.digest == digest)
    return registry.read(lambda connection: connection.execute(query).scalar_one_or_none())


def allowed(registry: Registry, tenant: str, bytes: int) -> None:
    """That a tenant may store so many bytes more.

    Raises:
        GatewayError: it may not, or there is no such tenant.
    """
    registry.run(lambda connection: check_bytes(tenant_of(connection, tenant), bytes))


def stored(registry: Registry, tenant: str, digest: str, bytes: int, now: float) -> None:
    """Note that a blob lies in the store; noting it again tells that it is still wanted.

    Raises:
        GatewayError: the tenant would have more stored than it may, or there is no such tenant.
    """
    mine = (blobs.c.tenant == tenant, blobs.c.digest == digest)

    def noted(connection: Connection) -> None:
        held = tenant_of(connection, tenant)
        if connection.execute(update(blobs).where(*mine).values(stored=now)).rowcount:
            return
        check_bytes(held, bytes)
        add(connection, blobs, {"tenant": tenant, "digest": digest, "bytes": bytes, "stored": now})
        _count(connection, tenant, held.stored_bytes + bytes)

    registry.run(noted)


def unused(registry: Registry, tenant: str, before: float, limit: int = 1000) -> list[str]:
    """Digests of blobs that were noted before a time, and that no open round needs: the store may delete them.

    Tell `removed` of each that is deleted.
    """
    open_rounds = select(rounds.c.round).where(rounds.c.tenant == tenant, rounds.c.state == "open")
    needed = select(rounds.c.round).where(
        rounds.c.tenant == tenant,
        rounds.c.state == "open",
        or_(rounds.c.plan == blobs.c.digest, rounds.c.weights == blobs.c.digest),
    )
    reported = select(work.c.round).where(
        work.c.tenant == tenant, work.c.round.in_(open_rounds), work.c.update_digest == blobs.c.digest
    )
    query = (
        select(blobs.c.digest)
        .where(blobs.c.tenant == tenant, blobs.c.stored < before, ~needed.exists(), ~reported.exists())
        .order_by(blobs.c.stored)
        .limit(limit)
    )
    return registry.read(lambda connection: list(connection.execute(query).scalars()))


def removed(registry: Registry, tenant: str, digest: str) -> None:
    """Note that a blob was deleted from the store."""
    mine = (blobs.c.tenant == tenant, blobs.c.digest == digest)

    def noted(connection: Connection) -> None:
        held = tenant_of(connection, tenant)
        size = connection.execute(select(blobs.c.bytes).where(*mine)).scalar_one_or_none()
        if size is not None:
            connection.execute(delete(blobs).where(*mine))
            _count(connection, tenant, held.stored_bytes - size)

    registry.run(noted)


def stored_bytes(connection: Connection, tenant: str, digest: str) -> int:
    """Size of a blob.

    Raises:
        GatewayError: the tenant has none of this digest.
    """
    query = select(blobs.c.bytes).where(blobs.c.tenant == tenant, blobs.c.digest == digest)
    size = connection.execute(query).scalar_one_or_none()
    if size is None:
        raise GatewayError(f"{shown(digest)} is not stored: upload it first", "NO_BLOB", 409)
    return int(size)


def _count(connection: Connection, tenant: str, total: int) -> None:
    connection.execute(update(tenants).where(tenants.c.name == tenant).values(stored_bytes=total))
