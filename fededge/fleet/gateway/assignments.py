"""What a client says of its assignments and releases, carried out: accepted, declined, an update to send, a report, what
it follows and runs.

Each is answered once the registry holds it for good.
"""

import asyncio

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, blobs, model_update, releases
from fededge.fleet.functions.aggregation import Reported
from fededge.fleet.functions.work import received
from fededge.fleet.gateway.keeping import kept, size_of
from fededge.fleet.gateway.objects import Objects, Place
from fededge.fleet.gateway.observing import past_spans
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.registry.database import Registry
from fededge.protocol import (
    Accept,
    Decline,
    Follow,
    Object,
    Offer,
    Received,
    Releases,
    ReportMessage,
    UploadPlace,
    UploadRequest,
)
from fededge.protocol.fields import Said

UNWANTED = ("LATE", "NO_ASSIGNMENT", "NO_UPDATE", "SIZE")
"""Why nobody takes an update, now or later: the client has its answer with that."""
TEXT = 500


async def answer(
    service: Service,
    tenant: str,
    client: str,
    message: Accept | Decline | UploadRequest | ReportMessage | Follow,
) -> Said:
    """What the gateway says to `message` of a client that proved who it is.

    Raises:
        GatewayError: it cannot be done now.
        RegistryError, StorageError: it could not be kept.
    """
    if isinstance(message, Accept):
        return await service.database.together(model_update.accept, tenant, client, message.assignment, now())
    if isinstance(message, Decline):
        return await service.database.together(
            model_update.decline, tenant, client, message.assignment, message.reason, now()
        )
    if isinstance(message, ReportMessage):
        return await _report(service, tenant, client, message)
    if isinstance(message, Follow):
        return await _releases(service, tenant, client, message)
    try:
        return await _place(service, tenant, client, message)
    except GatewayError as error:
        if error.reason not in UNWANTED:
            raise
        service.metrics.refused.labels(error.reason).inc()
        late = error.reason == "LATE"
        return received(message.assignment, "report", "late" if late else "refused", str(error)[:TEXT])


async def _place(service: Service, tenant: str, client: str, message: UploadRequest) -> UploadPlace:
    # A file's place is found in no time; one in S3 takes requests, which no transaction waits for.
    ask = service.database.together if service.objects.through_gateway else service.database.call
    place = await ask(_expected, service.objects, tenant, client, message, now())
    if place is not None:
        return UploadPlace(
            assignment=message.assignment, url=place.url, offset=place.offset, resumable=place.resumable
        )
    async with kept(service, tenant, message.digest, client):
        await service.database.together(blobs.stored, tenant, message.digest, message.bytes, now(), client)
    return UploadPlace(assignment=message.assignment, url="", offset=message.bytes, done=True)


def _expected(
    registry: Registry, objects: Objects, tenant: str, client: str, message: UploadRequest, at: float
) -> Place | None:
    """Where a client sends its update; None where it is here, whole."""
    round = aggregation.expected(registry, tenant, client, message, at)
    if objects.size(tenant, message.digest, client) == message.bytes:
        return None
    blobs.allowed(registry, tenant, message.bytes)
    return objects.place(tenant, message.digest, message.bytes, client, round)


async def _report(service: Service, tenant: str, client: str, message: ReportMessage) -> Received:
    reported = await _keep(service, tenant, client, message)
    answer = reported.answer
    if answer.outcome == "kept":
        service.reported.ring((tenant, reported.round))
    if answer.outcome == "kept" and service.settings.trace_endpoint and message.phases:
        trace = await service.database.call(aggregation.trace_of, tenant, reported.round)
        phases = {str(phase): seconds for phase, seconds in message.phases.items()}
        who = {"client": client, "tenant": tenant, "assignment": message.assignment}
        past_spans("client", trace, phases, now(), **who)
    return answer


async def _keep(service: Service, tenant: str, client: str, message: ReportMessage) -> Reported:
    objects = service.objects
    if objects.through_gateway:
        return await service.database.together(_kept, objects, tenant, client, message, now())
    if message.update is None:
        return await service.database.together(aggregation.report, tenant, client, message, now(), True, True)
    size = await size_of(service, tenant, message.update, client)
    if size is not None:
        async with kept(service, tenant, message.update, client):
            await service.database.together(blobs.stored, tenant, message.update, size, now(), client)
    return await service.database.together(
        aggregation.report, tenant, client, message, now(), size is not None, True
    )


async def _releases(service: Service, tenant: str, client: str, message: Follow) -> Releases:
    newer = await service.database.together(releases.follow, tenant, client, message.releases, now())

    def linked(found: tuple[str, int]) -> Object:
        return Object(digest=found[0], bytes=found[1], url=service.objects.link(tenant, found[0]))

    def offers() -> list[Offer]:
        return [
            Offer(task=each.task, manifest=linked(each.manifest), model=each.model and linked(each.model))
            for each in newer
        ]

    if not newer:
        return Releases()
    return Releases(offers=await asyncio.get_running_loop().run_in_executor(service.files, offers))


def _kept(
    registry: Registry, objects: Objects, tenant: str, client: str, message: ReportMessage, at: float
) -> Reported:
    """Keep a report, whose update is a file."""
    sent = message.update is None or objects.size(tenant, message.update, client) is not None
    return aggregation.report(registry, tenant, client, message, at, sent)
