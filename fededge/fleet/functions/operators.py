"""Operators: tokens of people and programs, and the tenants that they belong to."""

import hmac
import re
import secrets
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from fededge import storage
from fededge.errors import GatewayError, shown
from fededge.fleet.functions.quotas import tenant_of
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry, add, locked
from fededge.fleet.registry.pages import page
from fededge.fleet.registry.tables import operators, tenants
from fededge.protocol import Operator, OperatorRequest, OperatorToken, Page, Tenant

FIRST_TENANT = "default"
_BY_ID = select(operators).where(operators.c.id == bindparam("id"))
_TOKEN = re.compile(r"fe_([0-9a-f]{16})_[0-9a-f]{64}")


def token_of(registry: Registry, secret: str, now: float) -> Operator | None:
    """Whose token this is; None where it is nobody's, revoked or expired."""
    match = _TOKEN.fullmatch(secret)
    if match is None:
        return None
    key = {"id": match[1]}
    row = registry.read(lambda connection: connection.execute(_BY_ID, key).one_or_none())
    if (
        not hmac.compare_digest(storage.digest(secret.encode()), "" if row is None else row.digest)
        or row is None
    ):
        return None
    if row.revoked or (row.expires is not None and row.expires <= now):
        return None
    return _operator(row)


def used(registry: Registry, id: str, now: float) -> None:
    """Note that a token is used now."""
    seen = update(operators).where(operators.c.id == id).values(last_used=now)
    registry.run(lambda connection: connection.execute(seen))


def make(registry: Registry, tenant: str, request: OperatorRequest, actor: str, now: float) -> OperatorToken:
    """A new token of a tenant.

    Raises:
        GatewayError: no such tenant.
    """
    made = _token(tenant, request, now)

    def kept(connection: Connection) -> None:
        tenant_of(connection, tenant)
        _keep(connection, made, actor, now)

    registry.run(kept)
    return made


def first_admin(registry: Registry, now: float) -> OperatorToken | None:
    """The tenant `default` and an admin's token, made on a registry where no token of an admin is good; else None."""
    made = _token(FIRST_TENANT, OperatorRequest(name="admin", scope="admin"), now)
    admins = select(operators.c.id).where(
        operators.c.tenant == FIRST_TENANT,
        operators.c.scope == "admin",
        operators.c.revoked.is_(False),
        operators.c.expires.is_(None) | (operators.c.expires > now),
        operators.c.id != made.id,
    )

    def first(connection: Connection) -> OperatorToken | None:
        add(connection, tenants, {"name": FIRST_TENANT, "clients": None, "open_rounds": None, "bytes": None})
        connection.execute(locked(select(tenants).where(tenants.c.name == FIRST_TENANT)))
        if connection.execute(admins).first() is not None:
            return None
        _keep(connection, made, "gateway", now)
        return made

    return registry.run(first)


def listing(registry: Registry, tenant: str, after: str = "", limit: int = 100) -> Page[Operator]:
    """Tokens of a tenant in the order of their ids, after `after`."""
    query = select(operators).where(operators.c.tenant == tenant)
    rows, following = registry.read(lambda connection: page(connection, query, operators.c.id, after, limit))
    return Page[Operator](items=[_operator(row) for row in rows], next=following)


def revoke(registry: Registry, tenant: str, id: str, actor: str, now: float) -> None:
    """Make a token worthless, for good.

    Raises:
        GatewayError: no such token.
    """
    mine = (operators.c.tenant == tenant, operators.c.id == id)

    def revoked(connection: Connection) -> None:
        row = connection.execute(locked(select(operators).where(*mine))).one_or_none()
        if row is None:
            raise GatewayError(f"no token {shown(id)}: list them", "NO_TOKEN", 404)
        if not row.revoked:
            connection.execute(update(operators).where(*mine).values(revoked=True))
            audit.append(connection, tenant, actor, "token.revoke", id, {"name": row.name}, now)

    registry.run(revoked)


def put_tenant(registry: Registry, tenant: Tenant, actor: str, now: float) -> Tenant:
    """Make a tenant, or change its quotas."""
    quotas = {"clients": tenant.clients, "open_rounds": tenant.open_rounds, "bytes": tenant.bytes}

    def put(connection: Connection) -> None:
        mine = tenants.c.name == tenant.name
        made = add(connection, tenants, {"name": tenant.name, **quotas})
        before = connection.execute(locked(select(tenants).where(mine))).one()
        if not made and _tenant(before) == tenant:
            return
        connection.execute(update(tenants).where(mine).values(quotas))
        audit.append(connection, tenant.name, actor, "tenant.put", tenant.name, quotas, now)

    registry.run(put)
    return tenant


def get_tenant(registry: Registry, name: str) -> Tenant:
    """A tenant and its quotas.

    Raises:
        GatewayError: no such tenant.
    """
    return _tenant(registry.read(lambda connection: tenant_of(connection, name, lock=False)))


def list_tenants(registry: Registry, after: str = "", limit: int = 100) -> Page[Tenant]:
    """Tenants in the order of their names, after `after`."""
    rows, following = registry.read(
        lambda connection: page(connection, select(tenants), tenants.c.name, after, limit)
    )
    return Page[Tenant](items=[_tenant(row) for row in rows], next=following)


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(name=row.name, clients=row.clients, open_rounds=row.open_rounds, bytes=row.bytes)


def _token(tenant: str, request: OperatorRequest, now: float) -> OperatorToken:
    id = secrets.token_hex(8)
    return OperatorToken(
        id=id,
        tenant=tenant,
        name=request.name,
        scope=request.scope,
        created=now,
        expires=None if request.expires_seconds is None else now + request.expires_seconds,
        token=f"fe_{id}_{secrets.token_hex(32)}",
    )


def _keep(connection: Connection, made: OperatorToken, actor: str, now: float) -> None:
    there = connection.execute(select(operators.c.id).where(operators.c.id == made.id)).one_or_none()
    if there is not None:
        return  # this, repeated
    row = made.model_dump(exclude={"token"})
    connection.execute(insert(operators), {**row, "digest": storage.digest(made.token.encode())})
    details = {"name": made.name, "scope": made.scope}
    audit.append(connection, made.tenant, actor, "token.make", made.id, details, now)


def _operator(row: Row[Any]) -> Operator:
    return Operator(**{name: getattr(row, name) for name in Operator.model_fields})
