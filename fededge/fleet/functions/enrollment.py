"""Enrollment: one-time tokens make clients of keys; what operators say of clients; revocation."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from fededge import storage
from fededge.errors import GatewayError, shown
from fededge.fleet.functions.keys import proven_key
from fededge.fleet.functions.monitoring import end_session, live_gateways
from fededge.fleet.functions.quotas import count_client, tenant_of
from fededge.fleet.functions.work import OPEN, end, round_of, take
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry, add, chunks, locked
from fededge.fleet.registry.pages import page
from fededge.fleet.registry.tables import clients, datasets, enrollments, gateways, running, work
from fededge.protocol import (
    ClientChange,
    ClientInfo,
    Dataset,
    Enrolled,
    Enrollment,
    EnrollmentRequest,
    EnrollmentToken,
    Page,
    Running,
    random_key,
)

# Every round asks for its clients, so these are made once.
_NAMED = select(clients).where(
    clients.c.tenant == bindparam("tenant"), clients.c.client.in_(bindparam("ids", expanding=True))
)
_HELD, _RUNNING = (
    select(table)
    .where(table.c.tenant == bindparam("tenant"), table.c.client.in_(bindparam("ids", expanding=True)))
    .order_by(table.c.client, order)
    for table, order in ((datasets, datasets.c.dataset), (running, running.c.task))
)


def tokens(
    registry: Registry, tenant: str, request: EnrollmentRequest, actor: str, now: float
) -> list[EnrollmentToken]:
    """One-time tokens, each for one new client.

    Raises:
        GatewayError: a name for many, or a client of this name is enrolled.
    """
    if request.client is not None and request.count > 1:
        raise GatewayError(
            f"{request.count} clients cannot all be named {request.client}: leave the name out", "NAME", 400
        )
    expires = now + request.expires_seconds
    made = [
        EnrollmentToken(
            token=secrets.token_urlsafe(32),
            client=request.client or f"{request.kind}-{secrets.token_hex(6)}",
            expires=expires,
        )
        for _ in range(request.count)
    ]
    rows = [
        {
            "digest": storage.digest(each.token.encode()),
            "tenant": tenant,
            "client": each.client,
            "kind": request.kind,
            "device_class": request.device_class,
            "region": request.region,
            "attributes": request.attributes,
            "created": now,
            "expires": expires,
        }
        for each in made
    ]

    def kept(connection: Connection) -> None:
        tenant_of(connection, tenant)
        if request.client is not None and _client(connection, tenant, request.client) is not None:
            raise _enrolled_already(request.client)
        first = select(enrollments.c.digest).where(enrollments.c.digest == rows[0]["digest"])
        if connection.execute(first).one_or_none() is not None:
            return  # this, repeated
        connection.execute(insert(enrollments), rows)
        details = {"count": request.count, "kind": request.kind}
        audit.append(connection, tenant, actor, "enrollment.token", made[0].client, details, now)

    registry.run(kept)
    return made


def enroll(registry: Registry, enrollment: Enrollment, now: float) -> Enrolled:
    """Make a client of a token and a key, once; the same key may ask again and gets the same answer.

    Raises:
        GatewayError: the key or its proof is not good, the token is unknown, used or expired, the key or the name is
            another client's, or the tenant has as many clients as it may.
    """
    key = proven_key(enrollment)

    def enrolled(connection: Connection) -> Enrolled:
        row = connection.execute(
            locked(
                select(enrollments).where(enrollments.c.digest == storage.digest(enrollment.token.encode()))
            )
        ).one_or_none()
        if row is None:
            raise GatewayError("no such enrollment token: ask the operator for one", "TOKEN", 403)
        answer = Enrolled(tenant=row.tenant, client=row.client, kind=row.kind, region=row.region)
        if row.public_key == key.hex():
            return answer
        if row.public_key is not None:
            raise GatewayError("this enrollment token was used: ask for another", "TOKEN", 403)
        if row.expires <= now:
            raise GatewayError("this enrollment token has expired: ask for another", "TOKEN", 403)
        count_client(connection, row.tenant)
        if _client(connection, row.tenant, row.client) is not None:
            raise _enrolled_already(row.client)
        _keep_client(connection, row, key, now)
        connection.execute(
            update(enrollments).where(enrollments.c.digest == row.digest).values(public_key=key.hex())
        )
        details = {"key": storage.digest(key), "kind": row.kind}
        audit.append(
            connection, row.tenant, f"client {row.client}", "client.enroll", row.client, details, now
        )
        return answer

    return registry.run(enrolled)


def revoke(registry: Registry, tenant: str, client: str, actor: str, now: float) -> None:
    """Never let a client in again: its session ends, and its open work fails.

    Raises:
        GatewayError: no such client.
    """
    mine = (clients.c.tenant == tenant, clients.c.client == client)

    def revoked(connection: Connection) -> None:
        row = connection.execute(locked(select(clients).where(*mine))).one_or_none()
        if row is None:
            raise _no_client(client)
        end_session(connection, tenant, client, now)
        theirs = (work.c.tenant == tenant, work.c.client == client, work.c.state.in_(OPEN))
        for round in sorted(connection.execute(select(work.c.round).where(*theirs)).scalars()):
            held = round_of(connection, tenant, round)
            part = take(connection, tenant, round, client)
            if part is not None and part.state in OPEN:
                end(connection, held, client, "failed", now, "it was revoked")
        if row.state == "active":
            connection.execute(update(clients).where(*mine).values(state="revoked"))
            audit.append(connection, tenant, actor, "client.revoke", client, {}, now)

    registry.run(revoked)


def change(
    registry: Registry, tenant: str, client: str, request: ClientChange, actor: str, now: float
) -> ClientInfo:
    """Change what operators say of a client; what the request leaves out stays.

    Raises:
        GatewayError: no such client, or too many attributes.
    """

    def changed(connection: Connection) -> None:
        mine = (clients.c.tenant == tenant, clients.c.client == client)
        row = connection.execute(locked(select(clients).where(*mine))).one_or_none()
        if row is None:
            raise _no_client(client)
        attributes = {**row.attributes, **request.attributes}
        kept = {name: value for name, value in attributes.items() if value is not None}
        values = {
            "attributes": kept,
            "region": request.region or row.region,
            "device_class": request.device_class or row.device_class,
        }
        if len(kept) > 64:
            raise GatewayError("a client has at most 64 attributes: remove some", "ATTRIBUTES", 400)
        if all(row._mapping[name] == value for name, value in values.items()):
            return
        connection.execute(update(clients).where(*mine).values(values))
        audit.append(connection, tenant, actor, "client.change", client, request.to_content(), now)

    registry.run(changed)
    return info(registry, tenant, client, now)


def info(registry: Registry, tenant: str, client: str, now: float) -> ClientInfo:
    """What is known of a client.

    Raises:
        GatewayError: no such client.
    """

    def found(connection: Connection) -> ClientInfo:
        row = _client(connection, tenant, client)
        if row is None:
            raise _no_client(client)
        return _infos(connection, tenant, [row], now)[0]

    return registry.read(found)


def named(registry: Registry, tenant: str, ids: Sequence[str], now: float) -> Page[ClientInfo]:
    """What is known of the clients of these ids, in their order.

    Raises:
        GatewayError: one of them is no client.
    """

    def found(connection: Connection) -> Page[ClientInfo]:
        infos: list[ClientInfo] = []
        for some in chunks(sorted(set(ids))):
            rows = connection.execute(_NAMED, {"tenant": tenant, "ids": some}).all()
            infos += _infos(connection, tenant, rows, now)
        by_id = {info.client: info for info in infos}
        for client in ids:
            if client not in by_id:
                raise _no_client(client)
        return Page[ClientInfo](items=[by_id[client] for client in ids])

    return registry.read(found)


def listing(
    registry: Registry,
    tenant: str,
    now: float,
    dataset: str | None = None,
    region: str | None = None,
    connected: bool | None = None,
    state: str | None = None,
    after: str = "",
    limit: int = 100,
) -> Page[ClientInfo]:
    """Clients in the order of their ids, after `after`."""
    query = select(clients).where(clients.c.tenant == tenant)
    if dataset is not None:
        query = query.join(
            datasets, (datasets.c.tenant == clients.c.tenant) & (datasets.c.client == clients.c.client)
        ).where(datasets.c.dataset == dataset)
    if region is not None:
        query = query.where(clients.c.region == region)
    if state is not None:
        query = query.where(clients.c.state == state)
    if connected is not None:
        live = clients.c.gateway.in_(select(gateways.c.id).where(gateways.c.expires > now))
        query = query.where(live if connected else clients.c.gateway.is_(None) | ~live)

    def found(connection: Connection) -> Page[ClientInfo]:
        rows, following = page(connection, query, clients.c.client, after, limit)
        return Page[ClientInfo](items=_infos(connection, tenant, rows, now), next=following)

    return registry.read(found)


def _keep_client(connection: Connection, row: Row[Any], key: bytes, now: float) -> None:
    kept = add(
        connection,
        clients,
        {
            "tenant": row.tenant,
            "client": row.client,
            "random_key": random_key(row.client),
            "kind": row.kind,
            "state": "active",
            "public_key": key.hex(),
            "device_class": row.device_class,
            "region": row.region,
            "attributes": row.attributes,
            "capabilities": {},
            "conditions": {},
            "software": "",
            "enrolled": now,
        },
    )
    if not kept:
        raise GatewayError("this key is another client's: make a new one", "KEY", 409)


def _client(connection: Connection, tenant: str, client: str) -> Row[Any] | None:
    return connection.execute(
        select(clients).where(clients.c.tenant == tenant, clients.c.client == client)
    ).one_or_none()


def _infos(connection: Connection, tenant: str, rows: Sequence[Row[Any]], now: float) -> list[ClientInfo]:
    live = live_gateways(connection, now)
    held = _datasets(connection, tenant, [row.client for row in rows])
    runs = _running(connection, tenant, [row.client for row in rows])
    plain = ClientInfo.model_fields.keys() - {"datasets", "key_id", "connected", "running"}
    return [
        ClientInfo(
            **{name: getattr(row, name) for name in plain},
            key_id=storage.digest(bytes.fromhex(row.public_key)),
            connected=row.gateway in live,
            datasets=held.get(row.client, []),
            running=runs.get(row.client, []),
        )
        for row in rows
    ]


def _datasets(connection: Connection, tenant: str, ids: Sequence[str]) -> Mapping[str, list[Dataset]]:
    held: dict[str, list[Dataset]] = {}
    for row in connection.execute(_HELD, {"tenant": tenant, "ids": ids}):
        held.setdefault(row.client, []).append(
            Dataset(name=row.dataset, train=row.train, test=row.test, schema_digest=row.schema_digest)
        )
    return held


def _running(connection: Connection, tenant: str, ids: Sequence[str]) -> Mapping[str, list[Running]]:
    found: dict[str, list[Running]] = {}
    for row in connection.execute(_RUNNING, {"tenant": tenant, "ids": ids}):
        found.setdefault(row.client, []).append(Running.model_validate(row.report))
    return found


def _enrolled_already(client: str) -> GatewayError:
    return GatewayError(f"client {shown(client)} is enrolled already: choose another name", "NAME", 409)


def _no_client(client: str) -> GatewayError:
    return GatewayError(f"no client {shown(client)}: list them", "NO_CLIENT", 404)
