"""What nobody needs any more is removed: half-sent objects, blobs of rounds that are over, and tokens that expired."""

import asyncio

from fededge.fleet.functions import blobs, operators, retention
from fededge.fleet.gateway.service import Service, now

TOKEN_SECONDS = 86_400.0
"""For which who brings a token of enrollment that expired is told so."""


async def sweep_objects(service: Service) -> None:
    """Remove what nobody went on sending."""
    before = now() - service.settings.partial_seconds
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(service.files, service.objects.sweep, before)


async def sweep_blobs(service: Service) -> None:
    """Delete what no round needs any more."""
    after = ""
    before = now() - service.settings.keep_seconds
    loop = asyncio.get_running_loop()
    while True:
        tenants = await service.database.call(operators.list_tenants, after)
        for tenant in tenants.items:
            for digest, owner in await service.database.call(blobs.unused, tenant.name, before):
                await loop.run_in_executor(service.files, service.objects.remove, tenant.name, digest, owner)
                await service.database.together(blobs.removed, tenant.name, digest, owner)
        if tenants.next is None:
            return
        after = tenants.next


async def sweep_rounds(service: Service) -> None:
    """Forget rounds that are kept no longer."""
    seconds = service.settings.history_seconds
    left = seconds is not None
    while left:
        left = await service.database.call(retention.forget, now() - (seconds or 0.0)) > 0


async def sweep_tokens(service: Service) -> None:
    """Forget tokens of enrollment that expired a while ago."""
    while await service.database.call(retention.forget_tokens, now() - TOKEN_SECONDS):
        continue
