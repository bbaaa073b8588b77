"""The HTTP API of operators and pipelines, and of clients that enroll: every operation in one table."""

import asyncio
import time
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, blobs, enrollment, model_update, operators, selection, triggering
from fededge.fleet.gateway.assignments import size_of
from fededge.fleet.gateway.observing import traceparent
from fededge.fleet.gateway.operations import Call, Operation
from fededge.fleet.gateway.service import now
from fededge.fleet.registry import audit
from fededge.protocol import (
    Accepted,
    AuditEntry,
    BlobOffer,
    BlobPlace,
    ClientChange,
    ClientInfo,
    CloseRequest,
    Enrolled,
    Enrollment,
    EnrollmentRequest,
    EnrollmentToken,
    Operator,
    OperatorRequest,
    OperatorToken,
    Page,
    QueueItem,
    Reports,
    RoundRequest,
    RoundStatus,
    SelectionRequest,
    SelectionResult,
    Tenant,
    TriggerInfo,
    TriggerRequest,
)
from fededge.protocol.fields import Id, Name

LOOK_SECONDS = 0.25
"""How often a request that waits for reports looks for some."""
MOST_WAIT = 60.0
Limit = Annotated[int, Field(ge=1, le=1000)]


class Listing(BaseModel):
    """Query of a list: those after `after`, at most `limit`."""

    after: Annotated[str, Field(max_length=200)] = ""
    limit: Limit = 100


class Clients(Listing):
    """Query of the list of clients."""

    dataset: Name | None = None
    region: Name | None = None
    connected: bool | None = None
    state: Literal["active", "revoked"] | None = None


class Rounds(Listing):
    """Query of the list of rounds."""

    task: Name | None = None
    state: Literal["open", "closed"] | None = None


class Lines(BaseModel):
    """Query of the audit log: lines after the one of number `after`, at most `limit`."""

    after: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    limit: Limit = 100


class Wait(BaseModel):
    """Query of reports: those after ordinal `after`; where there are none, wait so many seconds for some."""

    after: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    wait: Annotated[float, Field(ge=0, le=MOST_WAIT)] = 0.0


async def enroll(call: Call) -> BaseModel:
    return await call.service.database.call(enrollment.enroll, call.body, now())


async def make_enrollments(call: Call) -> BaseModel:
    made = await call.service.database.call(
        enrollment.tokens, call.tenant, call.body, call.actor.name, now()
    )
    return Page[EnrollmentToken](items=made)


async def list_clients(call: Call) -> BaseModel:
    query: Clients = call.query
    return await call.service.database.call(
        enrollment.listing,
        call.tenant,
        now(),
        dataset=query.dataset,
        region=query.region,
        connected=query.connected,
        state=query.state,
        after=query.after,
        limit=query.limit,
    )


async def show_client(call: Call) -> BaseModel:
    return await call.service.database.call(enrollment.info, call.tenant, call.path.client, now())


async def change_client(call: Call) -> BaseModel:
    return await call.service.database.call(
        enrollment.change, call.tenant, call.path.client, call.body, call.actor.name, now()
    )


async def revoke_client(call: Call) -> BaseModel:
    await call.service.database.call(
        enrollment.revoke, call.tenant, call.path.client, call.actor.name, now()
    )
    return Accepted()


async def select_cohort(call: Call) -> BaseModel:
    return await call.service.database.call(selection.select, call.tenant, call.body, now())


async def offer_blob(call: Call) -> BaseModel:
    offer: BlobOffer = call.body
    service, tenant = call.service, call.tenant
    there = await size_of(service, tenant, offer.digest, None)
    if there is not None and there != offer.bytes:
        raise GatewayError(
            f"{offer.digest} has {there:,} bytes, not {offer.bytes:,}: offer the size that it has", "SIZE", 400
        )
    if there is not None:
        await service.database.together(blobs.stored, tenant, offer.digest, offer.bytes, now())
        return BlobPlace(offset=offer.bytes)
    await service.database.call(blobs.allowed, tenant, offer.bytes)
    place = await asyncio.get_running_loop().run_in_executor(
        service.files, service.objects.place, tenant, offer.digest, offer.bytes, None, None
    )
    return BlobPlace(url=place.url, offset=place.offset, resumable=place.resumable)


async def open_round(call: Call) -> BaseModel:
    request: RoundRequest = call.body.model_copy(update={"trace": traceparent(call.headers)})
    for digest in {request.plan, request.weights} if not call.service.objects.through_gateway else ():
        size = await size_of(call.service, call.tenant, digest, None)
        if size is not None:
            await call.service.database.together(blobs.stored, call.tenant, digest, size, now())
    return await call.service.database.call(
        model_update.open_round, call.tenant, call.path.round, request, now(), call.actor.name
    )


async def list_rounds(call: Call) -> BaseModel:
    query: Rounds = call.query
    return await call.service.database.call(
        aggregation.listing, call.tenant, query.task, query.state, query.after, query.limit
    )


async def show_round(call: Call) -> BaseModel:
    return await call.service.database.call(aggregation.status, call.tenant, call.path.round)


async def wait_for_reports(call: Call) -> BaseModel:
    query: Wait = call.query
    service = call.service
    until = time.monotonic() + query.wait
    while True:
        found = await service.database.call(aggregation.reports, call.tenant, call.path.round, query.after)
        left = until - time.monotonic()
        if found.items or not found.open or left <= 0 or service.draining:
            break
        await asyncio.sleep(min(LOOK_SECONDS, left))
    return await asyncio.get_running_loop().run_in_executor(
        service.files, lambda: _linked(call, found)
    )


def _linked(call: Call, found: Reports) -> Reports:
    """The reports with the URLs of their updates."""
    objects, tenant = call.service.objects, call.tenant
    items = [
        report
        if report.update is None
        else report.model_copy(
            update={"url": objects.link(tenant, report.update, 0, report.client, None)}
        )
        for report in found.items
    ]
    return Reports(items=items, open=found.open)


async def close_round(call: Call) -> BaseModel:
    return await call.service.database.call(
        aggregation.close, call.tenant, call.path.round, call.body, now(), call.actor.name
    )


async def show_queue(call: Call) -> BaseModel:
    query: Listing = call.query
    return await call.service.database.call(
        aggregation.queue, call.tenant, call.path.round, query.after, query.limit
    )


async def list_tokens(call: Call) -> BaseModel:
    query: Listing = call.query
    return await call.service.database.call(operators.listing, call.tenant, query.after, query.limit)


async def make_token(call: Call) -> BaseModel:
    return await call.service.database.call(
        operators.make, call.tenant, call.body, call.actor.name, now()
    )


async def revoke_token(call: Call) -> BaseModel:
    await call.service.database.call(operators.revoke, call.tenant, call.path.id, call.actor.name, now())
    return Accepted()


async def list_tenants(call: Call) -> BaseModel:
    query: Listing = call.query
    if call.tenant == operators.FIRST_TENANT:
        return await call.service.database.call(operators.list_tenants, query.after, query.limit)
    return Page[Tenant](items=[await call.service.database.call(operators.get_tenant, call.tenant)])


async def show_tenant(call: Call) -> BaseModel:
    _own(call)
    return await call.service.database.call(operators.get_tenant, call.path.name)


async def put_tenant(call: Call) -> BaseModel:
    tenant: Tenant = call.body
    if call.tenant != operators.FIRST_TENANT:
        raise GatewayError(
            f"quotas are set by administrators of the tenant {operators.FIRST_TENANT}: ask one", "FORBIDDEN", 403
        )
    if tenant.name != call.path.name:
        raise GatewayError(
            f"the tenant {tenant.name} at the address of {call.path.name}: name it once", "MALFORMED", 400
        )
    return await call.service.database.call(operators.put_tenant, tenant, call.actor.name, now())


def _own(call: Call) -> None:
    """Raise GatewayError (404) where a caller asks for a tenant that is not its own, as if there were none."""
    if call.path.name != call.tenant and call.tenant != operators.FIRST_TENANT:
        raise GatewayError(f"no tenant {call.path.name}: list them", "NO_TENANT", 404)


async def show_audit(call: Call) -> BaseModel:
    query: Lines = call.query
    return await call.service.database.call(audit.listing, call.tenant, query.after, query.limit)


async def list_triggers(call: Call) -> BaseModel:
    query: Listing = call.query
    return await call.service.database.call(triggering.listing, call.tenant, query.after, query.limit)


async def show_trigger(call: Call) -> BaseModel:
    return await call.service.database.call(triggering.get, call.tenant, call.path.name)


async def put_trigger(call: Call) -> BaseModel:
    return await call.service.database.call(
        triggering.put, call.tenant, call.path.name, call.body, call.actor.name, now()
    )


async def delete_trigger(call: Call) -> BaseModel:
    await call.service.database.call(
        triggering.delete, call.tenant, call.path.name, call.actor.name, now()
    )
    return Accepted()


async def fire_trigger(call: Call) -> BaseModel:
    return await call.service.database.call(
        triggering.fire, call.tenant, call.path.name, call.actor.name, now()
    )
