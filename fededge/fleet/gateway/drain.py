"""The end of a gateway: clients are told when to come back, spread, and the registry hears of each that leaves."""

import asyncio
import time

from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.service import Service
from fededge.fleet.gateway.sessions import GOING_AWAY

TOGETHER = 200
"""Clients that are sent off at once."""
PAUSE = 0.05


async def send_off(service: Service) -> None:
    """Say goodbye to every client, and wait until all are gone, for the time that draining may take."""
    service.draining = True
    sessions = list(service.sessions)
    log.info("draining", clients=len(sessions))
    until = time.monotonic() + service.settings.drain_seconds
    for start in range(0, len(sessions), TOGETHER):
        for session in sessions[start : start + TOGETHER]:
            retry = service.load.spread(len(sessions))
            service.sessions.start(session.end("DRAINING", GOING_AWAY, retry))
        await asyncio.sleep(0)
    while len(service.sessions) and time.monotonic() < until:
        await asyncio.sleep(PAUSE)
