"""What a gateway does by itself: it asks the registry for work, hands it out, and keeps the registry informed.

Any number of gateways do this beside each other. Each asks for what concerns its own sessions; who closes rounds that are
over or ends sessions of gateways that died does not matter, since each of these is a transaction that may be repeated.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from fededge.errors import FedEdgeError
from fededge.fleet.functions import model_update, monitoring
from fededge.fleet.functions.model_update import Due
from fededge.fleet.functions.work import FAILED, OPEN
from fededge.fleet.gateway import sweeping
from fededge.fleet.gateway.objects import Objects
from fededge.fleet.gateway.observing import log, span
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.gateway.sessions import POLICY
from fededge.fleet.registry.database import Registry
from fededge.protocol import Assignment, Cancel, Object

ENDED = ("reported", *FAILED)
MOST_AT_ONCE = 1000
BEAT_SECONDS = 1.0
COUNT_SECONDS = 15.0
SWEEP_SECONDS = 600.0


@dataclass(frozen=True)
class Polled:
    """What the registry has for the clients of a gateway.

    Attributes:
        due: session and message of each work to hand out; `cancels`: session and assignment that nobody waits for;
            `ended`: sessions to close.
    """

    due: list[tuple[str, Assignment]]
    cancels: list[tuple[str, str]]
    ended: list[str]


def poll(registry: Registry, objects: Objects, gateway: str, at: float) -> Polled:
    """Ask for all of it; `objects` has the plans and weights."""

    def found(connection: Connection) -> tuple[bool, bool, list[str]]:
        return *model_update.to_do(connection, gateway, at), monitoring.ended_sessions(connection, gateway)

    is_due, is_over, ended = registry.read(found)
    due = model_update.due(registry, gateway, at, MOST_AT_ONCE) if is_due else []
    return Polled(
        [(each.session, _assignment(objects, each)) for each in due],
        model_update.cancels(registry, gateway, at) if is_over else [],
        ended,
    )


def _assignment(objects: Objects, due: Due) -> Assignment:
    """The message that hands out work that is due."""

    def linked(digest: str, size: int) -> Object:
        url = objects.link(due.tenant, digest, round=due.round)
        return Object(digest=digest, bytes=size, url=url)

    with span("assign", due.trace, assignment=due.assignment, client=due.client):
        return Assignment(
            id=due.assignment,
            order=due.order,
            plan=linked(due.plan, due.plan_bytes),
            weights=linked(due.weights, due.weights_bytes),
            upload=None
            if due.update_bytes is None
            else objects.open_place(due.tenant, due.update_bytes, due.client, due.round),
            seconds_left=due.seconds_left,
            share=due.share,
            trace=due.trace,
        )


class Dispatch:
    """The loops of a gateway."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Say that this gateway is there, then begin.

        Raises:
            RegistryError: the registry does not answer.
        """
        settings = self._service.settings
        await self._lease()
        loops: tuple[tuple[Callable[[], Coroutine[Any, Any, None]], float], ...] = (
            (self._beat, BEAT_SECONDS),
            (self._expire, BEAT_SECONDS),
            (self._count, COUNT_SECONDS),
            (self._lease, settings.lease_seconds / 3),
            (self._sweep_sessions, settings.lease_seconds / 3),
            (self._sweep_objects, SWEEP_SECONDS),
            (self._sweep_blobs, SWEEP_SECONDS),
            (self._sweep_rounds, SWEEP_SECONDS),
            (self._sweep_tokens, SWEEP_SECONDS),
        )
        self._tasks = [asyncio.create_task(self._repeat(work, seconds)) for work, seconds in loops]
        wake_ups = self._service.wake_ups
        poll = self._repeat(self._poll, settings.poll_seconds, wake_ups.wait)
        self._tasks += [
            asyncio.create_task(work) for work in (poll, wake_ups.serve(), self._service.load.watch())
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the loops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._service.failed = True
            log.critical("a loop ended", exc_info=error)

    async def _repeat(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        seconds: float,
        pause: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        while True:
            begun = time.monotonic()
            try:
                await work()
            except FedEdgeError as error:
                log.error("loop", loop=work.__name__.strip("_"), problem=str(error))
            await pause(max(0.0, seconds - (time.monotonic() - begun)))

    async def _poll(self) -> None:
        service = self._service
        while True:
            polled = await service.database.call(poll, service.objects, service.settings.id, now())
            for session_id in polled.ended:
                await self._end(session_id)
            for session_id, assignment in polled.cancels:
                if (session := service.sessions.get(session_id)) is not None:
                    service.sessions.deliver(session, Cancel(assignment=assignment))
            for session_id, message in polled.due:
                self._hand_out(session_id, message)
            if len(polled.due) < MOST_AT_ONCE:
                return

    def _hand_out(self, session_id: str, message: Assignment) -> None:
        """Send it; what is not delivered is due again, after the registry's back-off."""
        sessions = self._service.sessions
        session = sessions.get(session_id)
        if session is None or not sessions.deliver(session, message):
            log.info("not delivered", session=session_id, assignment=message.id)

    async def _end(self, session_id: str) -> None:
        """Close the connection of a session that ended elsewhere."""
        service = self._service
        session = service.sessions.get(session_id)
        if session is None:
            await service.database.call(monitoring.disconnect, session_id, now())
        else:
            service.sessions.start(session.end("ENDED", POLICY))

    async def _beat(self) -> None:
        service = self._service
        for session in service.sessions.idle():
            service.sessions.start(session.end("IDLE", POLICY))
        service.metrics.lag.set(service.load.lag)
        service.metrics.pending.set(service.load.pending)
        if beats := service.sessions.taken_beats():
            for session_id in await service.database.call(monitoring.beat, beats, now()):
                await self._end(session_id)

    async def _expire(self) -> None:
        await self._service.database.call(model_update.expire, now())

    async def _count(self) -> None:
        """Tell of the work that is open, for the metrics."""
        gauge = self._service.metrics.work
        counts = await self._service.database.call(monitoring.work_by_state)
        for state in (*OPEN, *ENDED):
            gauge.labels(state).set(counts.get(state, 0))

    async def _lease(self) -> None:
        service = self._service
        settings = service.settings
        await service.database.call(monitoring.lease, settings.id, service.url, settings.lease_seconds, now())

    async def _sweep_sessions(self) -> None:
        await self._service.database.call(monitoring.sweep, now())
        await self._service.database.call(model_update.set_right, self._service.settings.id, now())

    async def _sweep_objects(self) -> None:
        await sweeping.sweep_objects(self._service)

    async def _sweep_rounds(self) -> None:
        await sweeping.sweep_rounds(self._service)

    async def _sweep_tokens(self) -> None:
        await sweeping.sweep_tokens(self._service)

    async def _sweep_blobs(self) -> None:
        await sweeping.sweep_blobs(self._service)
