"""Which bytes a tenant has stored: plans, weights and updates, by digest. The bytes themselves lie in the blob store."""

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from fededge.errors import GatewayError, shown
from fededge.fleet.functions.quotas import check_bytes, tenant_of
from fededge.fleet.registry.database import Registry, add
from fededge.fleet.registry.tables import blobs, release_blobs, rounds, tenants, work

# Every update passes through these, so they are made once.
_WANTED = (
    update(blobs)
    .where(
        blobs.c.tenant == bindparam("of_tenant"),
        blobs.c.digest == bindparam("of_digest"),
        blobs.c.owner == bindparam("of_owner"),
    )
    .returning(blobs.c.bytes)
)
_SIZE = select(blobs.c.bytes).where(
    blobs.c.tenant == bindparam("tenant"),
    blobs.c.digest == bindparam("digest"),
    blobs.c.owner == bindparam("owner"),
)
_COUNT = update(tenants).where(tenants.c.name == bindparam("of_tenant"))


def known(registry: Registry, tenant: str, digest: str, owner: str | None = None) -> int | None:
    """Size in bytes of a blob that `owner` sent; None where there is none of this digest."""
    return registry.read(lambda connection: size_of(connection, tenant, digest, owner))


def allowed(registry: Registry, tenant: str, bytes: int) -> None:
    """That a tenant may store so many bytes more, as it stands; `stored` decides.

    Raises:
        GatewayError: it may not, or there is no such tenant.
    """
    registry.read(lambda connection: check_bytes(tenant_of(connection, tenant, lock=False), bytes))


def stored(
    registry: Registry, tenant: str, digest: str, bytes: int, now: float, owner: str | None = None
) -> None:
    """Note that a blob lies in the store; noting it again tells that it is still wanted.

    Args:
        owner: the client that sent it; None: a pipeline did.

    Raises:
        GatewayError: the tenant would have more stored than it may, or there is no such tenant.
    """

    def noted(connection: Connection) -> None:
        held = tenant_of(connection, tenant)
        if wanted(connection, tenant, digest, now, owner) is not None:
            return
        check_bytes(held, bytes)
        row = {"tenant": tenant, "digest": digest, "owner": owner or "", "bytes": bytes, "stored": now}
        add(connection, blobs, row)
        _count(connection, tenant, held.stored_bytes + bytes)

    registry.run(noted)


def wanted(
    connection: Connection, tenant: str, digest: str, now: float, owner: str | None = None
) -> int | None:
    """Note that a blob is still wanted; its size in bytes, None where there is none."""
    key = {"of_tenant": tenant, "of_digest": digest, "of_owner": owner or "", "stored": now}
    return connection.execute(_WANTED, key).scalar_one_or_none()


def needed(connection: Connection, tenant: str, digests: Collection[str], now: float) -> dict[str, int]:
    """The size in bytes of each of these blobs of pipelines, which are noted as wanted.

    Raises:
        GatewayError: one is not there.
    """
    sizes = {}
    for digest in sorted(digests):  # everybody takes the rows in the same order
        size = wanted(connection, tenant, digest, now)
        if size is None:
            raise GatewayError(f"{shown(digest)} is not stored: upload it first", "NO_BLOB", 409)
        sizes[digest] = size
    return sizes


def unused(registry: Registry, tenant: str, before: float, limit: int = 1000) -> list[tuple[str, str | None]]:
    """Digest and owner of blobs that were noted before a time, and that no open round or release needs: they may be
    deleted.

    Tell `removed` of each that is.
    """
    open_rounds = select(rounds.c.round).where(rounds.c.tenant == tenant, rounds.c.state == "open")
    needed = open_rounds.where(or_(rounds.c.plan == blobs.c.digest, rounds.c.weights == blobs.c.digest))
    reported = select(work.c.round).where(
        work.c.tenant == tenant,
        work.c.round.in_(open_rounds),
        work.c.client == blobs.c.owner,
        work.c.update_digest == blobs.c.digest,
    )
    released = select(release_blobs.c.task).where(
        release_blobs.c.tenant == tenant, release_blobs.c.digest == blobs.c.digest
    )
    query = (
        select(blobs.c.digest, blobs.c.owner)
        .where(blobs.c.tenant == tenant, blobs.c.stored < before)
        .where(~needed.exists(), ~reported.exists(), ~released.exists())
        .order_by(blobs.c.stored)
        .limit(limit)
    )
    rows = registry.read(lambda connection: connection.execute(query).all())
    return [(row.digest, row.owner or None) for row in rows]


def removed(registry: Registry, tenant: str, digest: str, owner: str | None = None) -> None:
    """Note that a blob was deleted from the store."""

    def noted(connection: Connection) -> None:
        held = tenant_of(connection, tenant)
        size = size_of(connection, tenant, digest, owner)
        if size is not None:
            mine = (blobs.c.tenant == tenant, blobs.c.digest == digest, blobs.c.owner == (owner or ""))
            connection.execute(delete(blobs).where(*mine))
            _count(connection, tenant, held.stored_bytes - size)

    registry.run(noted)


def size_of(connection: Connection, tenant: str, digest: str, owner: str | None) -> int | None:
    """See `known`."""
    key = {"tenant": tenant, "digest": digest, "owner": owner or ""}
    return connection.execute(_SIZE, key).scalar_one_or_none()


def _count(connection: Connection, tenant: str, total: int) -> None:
    connection.execute(_COUNT, {"of_tenant": tenant, "stored_bytes": total})
