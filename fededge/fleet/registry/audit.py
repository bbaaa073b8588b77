"""The audit log: append-only and hash-chained, a chain a tenant.

A line's digest is over the digest of the line before it and its own content, so that a line that was changed, taken out
or put in shows. Who can write to the database can compute a whole chain anew: keep the last digest somewhere else to
notice that.
"""

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, insert, select, update

from fededge.fleet.registry.columns import printable
from fededge.fleet.registry.database import Registry, add, locked
from fededge.fleet.registry.pages import LARGEST, page
from fededge.fleet.registry.tables import audit, chains
from fededge.protocol import AuditEntry, Page

START = f"sha256:{'0' * 64}"
"""The digest before a chain's first line."""


def append(
    connection: Connection,
    tenant: str | None,
    actor: str,
    action: str,
    subject: str,
    details: dict[str, Any],
    now: float,
) -> None:
    """Add a line. It is the last thing that a transaction does: until it ends, nobody else adds to this tenant's chain.

    Args:
        tenant: None: what concerns no tenant.
        actor: who did it: an operator by name, a client, or the gateway itself.
        details: JSON.
    """
    chain = tenant or ""
    add(connection, chains, {"tenant": chain, "number": 0, "digest": START})
    head = connection.execute(locked(select(chains).where(chains.c.tenant == chain))).one()
    entry = {
        "tenant": chain,
        "number": head.number + 1,
        "at": now,
        "actor": printable(actor),
        "action": action,
        "subject": printable(subject),
        "details": json.loads(json.dumps(details)),
    }
    linked = digest(head.digest, entry)
    connection.execute(insert(audit), {**entry, "digest": linked})
    connection.execute(
        update(chains).where(chains.c.tenant == chain), {"number": head.number + 1, "digest": linked}
    )


def digest(previous: str, entry: dict[str, Any]) -> str:
    """Digest of a line, `entry` with all columns but the digest, after the one with the digest `previous`."""
    content = json.dumps([previous, entry], sort_keys=True, separators=(",", ":")).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def verify(registry: Registry) -> str | None:
    """The first line that breaks a chain, as `TENANT/NUMBER: why`; None where all are whole."""

    def broken(connection: Connection) -> str | None:
        heads = {row.tenant: row for row in connection.execute(select(chains))}
        tenant, number, previous = None, 0, START
        query = select(audit).order_by(audit.c.tenant, audit.c.number)
        lines = connection.execute(query.execution_options(yield_per=LARGEST))
        for line in lines:
            if line.tenant != tenant:
                if tenant is not None and (why := _ends(heads.pop(tenant, None), number, previous)):
                    return f"{tenant}/{number}: {why}"
                tenant, number, previous = line.tenant, 0, START
            number += 1
            entry = dict(line._mapping)
            kept = entry.pop("digest")
            if line.number != number:
                return f"{tenant}/{number}: it is missing"
            if digest(previous, entry) != kept:
                return f"{tenant}/{number}: its digest does not fit"
            previous = kept
        if tenant is not None and (why := _ends(heads.pop(tenant, None), number, previous)):
            return f"{tenant}/{number}: {why}"
        cut = sorted(name for name, head in heads.items() if head.number)
        return f"{cut[0]}/1: it is missing" if cut else None

    return registry.read(broken)


def listing(registry: Registry, tenant: str | None, after: int = 0, limit: int = 100) -> Page[AuditEntry]:
    """Lines of a tenant's chain after the one of number `after`, oldest first."""
    query = select(audit).where(audit.c.tenant == (tenant or ""))
    rows, following = registry.read(lambda connection: page(connection, query, audit.c.number, after, limit))
    items = [AuditEntry(**{**row._mapping, "tenant": row.tenant or None}) for row in rows]
    return Page[AuditEntry](items=items, next=following)


def _ends(head: Any, number: int, previous: str) -> str | None:
    if head is None or (head.number, head.digest) != (number, previous):
        return "it is not the last line that was written"
    return None
