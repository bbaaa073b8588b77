"""Objects that lie in the store and that the registry is told of: what a tenant has no room for does not stay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fededge.errors import GatewayError
from fededge.fleet.gateway.service import Service


@asynccontextmanager
async def kept(service: Service, tenant: str, digest: str, owner: str | None) -> AsyncIterator[None]:
    """The block notes in the registry that an object is there; where the tenant may not store it, it is removed.

    Raises:
        GatewayError: the tenant may not (413 QUOTA).
        StorageError: it cannot be removed.
    """
    try:
        yield
    except GatewayError as error:
        if error.reason == "QUOTA":
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(service.files, service.objects.remove, tenant, digest, owner)
        raise


async def size_of(service: Service, tenant: str, digest: str, owner: str | None) -> int | None:
    """Bytes of an object that is there, whole; None where it is not."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.files, service.objects.size, tenant, digest, owner)
