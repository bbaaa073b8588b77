"""What pipelines ask of a gateway: places for plans and weights, rounds, and the reports of a round as they come."""

import asyncio
import time
from typing import Annotated

from pydantic import Field

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, blobs, model_update
from fededge.fleet.gateway.bell import heard
from fededge.fleet.gateway.keeping import kept, size_of
from fededge.fleet.gateway.objects import Objects
from fededge.fleet.gateway.observing import traceparent
from fededge.fleet.gateway.operations import Call, Query
from fededge.fleet.registry.database import Registry
from fededge.protocol import BlobOffer, BlobPlace, Reports, RoundRequest, RoundStatus
from fededge.protocol.fields import Count

LOOK_SECONDS = 0.25
"""How often a request that waits for reports looks for some, beside hearing of those that come here."""


class Wait(Query):
    """Query of reports: those after ordinal `after`; where there are none, wait so many seconds for some."""

    after: Count = 0
    wait: Annotated[float, Field(ge=0, le=60)] = 0.0


async def offer_blob(call: Call) -> BlobPlace:
    """Where to send bytes that are not here yet.

    Raises:
        GatewayError: bytes of this digest have another size, or the tenant may not store so many.
    """
    offer: BlobOffer = call.body
    service, tenant = call.service, call.tenant
    there = await size_of(service, tenant, offer.digest, None)
    if there is not None and there != offer.bytes:
        raise GatewayError(
            f"the bytes of {offer.digest} are {there:,}, not {offer.bytes:,}: say their size", "SIZE", 400
        )
    if there is not None:
        async with kept(service, tenant, offer.digest, None):
            await service.database.together(blobs.stored, tenant, offer.digest, offer.bytes, call.now)
        return BlobPlace(offset=offer.bytes)
    await service.database.look(blobs.allowed, tenant, offer.bytes)
    place = await asyncio.get_running_loop().run_in_executor(
        service.files, service.objects.place, tenant, offer.digest, offer.bytes, None, None
    )
    return BlobPlace(url=place.url, offset=place.offset, resumable=place.resumable)


async def open_round(call: Call) -> RoundStatus:
    """Open a round, or tell how it stands.

    Raises:
        GatewayError: see model_update.open_round.
    """
    service, tenant = call.service, call.tenant
    trace = traceparent(call.headers) or call.body.trace
    request: RoundRequest = call.body.model_copy(update={"trace": trace})
    if not service.objects.through_gateway:
        for digest in {request.plan, request.weights}:
            if (size := await size_of(service, tenant, digest, None)) is not None:
                async with kept(service, tenant, digest, None):
                    await service.database.together(blobs.stored, tenant, digest, size, call.now)
    return await service.database.call(
        model_update.open_round, tenant, call.path.round, request, call.now, call.actor.name
    )


async def wait_for_reports(call: Call) -> Reports:
    """Reports of a round, with URLs to fetch their updates.

    Raises:
        GatewayError: no such round.
    """
    query: Wait = call.query
    service, round = call.service, call.path.round
    until = time.monotonic() + min(query.wait, service.settings.wait_seconds)
    while True:
        rung = service.reported.listen((call.tenant, round))
        found = await service.database.call(_linked, service.objects, call.tenant, round, query.after)
        left = until - time.monotonic()
        if found.items or not found.open or left <= 0 or service.draining:
            return found
        await heard(rung, min(LOOK_SECONDS, left))


def _linked(registry: Registry, objects: Objects, tenant: str, round: str, after: int) -> Reports:
    """The reports of a round after the ordinal `after`, with URLs of their updates."""
    found = aggregation.reports(registry, tenant, round, after)
    links = {
        report.ordinal: objects.link(tenant, report.update, report.client)
        for report in found.items
        if report.update is not None
    }
    items = [report.model_copy(update={"url": links.get(report.ordinal)}) for report in found.items]
    return found.model_copy(update={"items": items})
