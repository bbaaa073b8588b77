"""What a client says of its assignments and releases, carried out: accepted, declined, an update to send, a report, what
it follows and runs.

Each is answered once the registry holds it for good.
"""

import asyncio

from fededge.fleet.functions import aggregation, blobs, model_update, releases
from fededge.fleet.gateway.objects import Objects, Place
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.gateway.sessions import Session
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


async def answer(
    service: Service, session: Session, message: Accept | Decline | UploadRequest | ReportMessage | Follow
) -> Said:
    """What the gateway says to `message`.

    Raises:
        GatewayError: it is not this client's, or not what was asked for.
        RegistryError, StorageError: it could not be kept.
    """
    tenant, client = session.tenant, session.client
    if isinstance(message, Accept):
        return await service.database.together(model_update.accept, tenant, client, message.assignment, now())
    if isinstance(message, Decline):
        return await service.database.together(
            model_update.decline, tenant, client, message.assignment, message.reason, now()
        )
    if isinstance(message, UploadRequest):
        return await _place(service, session, message)
    if isinstance(message, Follow):
        return await _releases(service, session, message)
    return await _report(service, session, message)


async def _place(service: Service, session: Session, message: UploadRequest) -> UploadPlace:
    # A file's place is found in no time; one in S3 takes requests, which no transaction waits for.
    ask = service.database.together if service.objects.through_gateway else service.database.call
    place = await ask(_expected, service.objects, session.tenant, session.client, message, now())
    if place is not None:
        return UploadPlace(
            assignment=message.assignment, url=place.url, offset=place.offset, resumable=place.resumable
        )
    await service.database.together(
        blobs.stored, session.tenant, message.digest, message.bytes, now(), session.client
    )
    return UploadPlace(assignment=message.assignment, url="", offset=message.bytes, done=True)


def _expected(
    registry: Registry, objects: Objects, tenant: str, client: str, message: UploadRequest, at: float
) -> Place | None:
    """Where a client sends its update; None where it is here, whole."""
    aggregation.expected(registry, tenant, client, message, at)
    if objects.size(tenant, message.digest, client) == message.bytes:
        return None
    blobs.allowed(registry, tenant, message.bytes)
    return objects.place(tenant, message.digest, message.bytes, client, message.assignment)


async def _report(service: Service, session: Session, message: ReportMessage) -> Received:
    tenant, client, objects = session.tenant, session.client, service.objects
    if message.update is None or objects.through_gateway:
        return await service.database.together(_kept, objects, tenant, client, message, now())
    size = await size_of(service, tenant, message.update, client)
    if size is not None:
        await service.database.together(blobs.stored, tenant, message.update, size, now(), client)
    return await service.database.together(
        aggregation.report, tenant, client, message, now(), size is not None
    )


async def _releases(service: Service, session: Session, message: Follow) -> Releases:
    tenant = session.tenant
    newer = await service.database.together(releases.follow, tenant, session.client, message.releases, now())

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
) -> Received:
    """Keep a report, whose update is a file."""
    sent = message.update is None or objects.size(tenant, message.update, client) is not None
    return aggregation.report(registry, tenant, client, message, at, sent)


async def size_of(service: Service, tenant: str, digest: str, owner: str | None) -> int | None:
    """Bytes of an object that is there, whole; None where it is not."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.files, service.objects.size, tenant, digest, owner)
