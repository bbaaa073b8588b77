"""Retention: rounds that are long over are forgotten, with what their clients reported of them, and expired tokens of
enrollment.

What was learned of clients stays (their rounds, speed and losses), and so does the audit log: each of its lines is proven
by those after it, so none is taken out.
"""

from sqlalchemy import Connection, delete, select

from fededge.fleet.registry.database import Registry, chunks
from fededge.fleet.registry.tables import enrollments, rounds, work


def forget(registry: Registry, before: float, limit: int = 100) -> int:
    """Forget closed rounds whose deadline was before a time, the oldest first; how many.

    Args:
        registry: that has them.
        before: in seconds since the epoch.
        limit: most of them.
    """
    old = (
        select(rounds.c.tenant, rounds.c.round)
        .where(rounds.c.state == "closed", rounds.c.deadline < before)
        .order_by(rounds.c.deadline)
        .limit(limit)
    )
    found = registry.read(lambda connection: connection.execute(old).all())

    def forgotten(connection: Connection, tenant: str, round: str) -> None:
        connection.execute(delete(work).where(work.c.tenant == tenant, work.c.round == round))
        connection.execute(delete(rounds).where(rounds.c.tenant == tenant, rounds.c.round == round))

    for tenant, round in found:
        registry.run(lambda connection, key=(tenant, round): forgotten(connection, *key))  # type: ignore[misc]
    return len(found)


def forget_tokens(registry: Registry, before: float, limit: int = 1000) -> int:
    """Forget tokens of enrollment that expired before a time, used or not, the oldest first; how many.

    Args:
        registry: that has them.
        before: in seconds since the epoch.
        limit: most of them.
    """
    old = select(enrollments.c.digest).where(enrollments.c.expires < before)
    oldest = old.order_by(enrollments.c.expires).limit(limit)
    found = registry.read(lambda connection: connection.execute(oldest).scalars().all())

    def forgotten(connection: Connection) -> None:
        for some in chunks(found):
            connection.execute(delete(enrollments).where(enrollments.c.digest.in_(some)))

    if found:
        registry.run(forgotten)
    return len(found)
