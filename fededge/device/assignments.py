"""The assignments of a client: taken on or declined, worked on side by side, and dropped when nobody waits for them."""

import asyncio
import logging
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fededge.device.connection import Connection
from fededge.device.eligible import check
from fededge.device.judging import harmless, judged, unseen
from fededge.device.policy import Loaded
from fededge.device.store import Held
from fededge.device.work import WORDS, Work
from fededge.device.workplace import Workplace
from fededge.errors import FedEdgeError, SiteError, StorageError, shown
from fededge.protocol import Accept, Assignment, Decline

log = logging.getLogger("fededge.site")
MOST = 16
"""At a time, as a hello can name them."""
DECLINES_A_MINUTE = 60
"""What is refused beyond that is refused in silence: a gateway cannot make a site talk."""
SPARE_BYTES = 64 << 20
"""Of disk, that stay free."""


def need_room(folder: Path, needed: int) -> None:
    """Check that so many bytes and SPARE_BYTES fit on the disk of `folder`.

    Raises:
        StorageError: they do not.
    """
    if lack := _lack_of_room(folder, needed):
        raise StorageError(f"{lack}. Free space")


def _lack_of_room(folder: Path, needed: int) -> str | None:
    free, needed = shutil.disk_usage(folder).free, needed + SPARE_BYTES
    return f"there are {free:,} bytes of disk, and {needed:,} are needed" if free < needed else None


class Assignments:
    """Those of the client in `place`.

    Args:
        place: where it works.
        reconnect: makes the connection anew, for addresses that are good no longer.
    """

    def __init__(self, place: Workplace, reconnect: Callable[[], None]) -> None:
        self._place, self._reconnect = place, reconnect
        self._works: dict[str, tuple[Work, asyncio.Task[None]]] = {}
        self._side: set[asyncio.Task[None]] = set()
        self._declined: deque[float] = deque(maxlen=DECLINES_A_MINUTE)

    @property
    def busy(self) -> bool:
        """Whether there are any."""
        return bool(self._works)

    @property
    def named(self) -> list[str]:
        """Ids of those that the gateway need not send again."""
        return [id for id, (work, _) in self._works.items() if not work.stale]

    def resume(self) -> None:
        """Go on with what the store holds."""
        for held in self._place.store.held():
            log.info("round %s: goes on, %s", held.round, "done" if held.report else "not done yet")
            self._start(held)

    async def close(self) -> None:
        """Stop working; the store keeps how far all is."""
        tasks = [task for _, task in self._works.values()] + list(self._side)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take(self, connection: Connection, message: Assignment) -> None:
        """Take on, or decline, what the gateway sent; once more, where it was sent before."""
        place = self._place
        if message.id in self._works:
            self._works[message.id][0].renewed(message)
            await connection.send(Accept(assignment=message.id))
            return
        try:
            policy = self._policy()
            verdict = judged(message, policy, place.identity.tenant, place.frameworks, place.isolated)
            unseen(verdict, place.store, place.clock)
            harmless(verdict.order, place.store)
            order = verdict.order
            check(place, order.conditions, order.dataset, verdict.examples)
            self._need_room(message)
            now = place.clock.now()
            place.store.accept(message, verdict.order, verdict.signer.id, verdict.rule.name, now)
        except SiteError as error:
            await self._decline(connection, message.id, str(error))
            return
        except FedEdgeError as error:  # which tells of files of this site
            log.warning("%s", error)
            await self._decline(
                connection, message.id, "this cannot be done here for now: the site's log tells why"
            )
            return
        log.info(
            "round %s: accepted: %s of task %s, round %d (%s)",
            *(order.round_id, order.kind, order.task, order.number, verdict.rule.name),
        )
        held = next(held for held in place.store.held() if held.assignment.id == message.id)
        self._start(held)
        await connection.send(Accept(assignment=message.id), order.round_id)

    def _policy(self) -> Loaded:
        try:
            return self._place.policy.current()
        except SiteError as error:
            log.error("nothing is allowed for now: %s", error)
            raise SiteError("this site's policy cannot be read for now") from error

    def _need_room(self, message: Assignment) -> None:
        if len(self._works) >= MOST:
            raise SiteError(f"{MOST} assignments are worked on already")
        if lack := _lack_of_room(self._place.folder, 2 * message.plan.bytes + 2 * message.weights.bytes):
            raise SiteError(lack)

    async def _decline(self, connection: Connection, assignment: str, reason: str) -> None:
        log.warning("assignment %s declined: %s", assignment, reason)
        now = asyncio.get_running_loop().time()
        if len(self._declined) == DECLINES_A_MINUTE and now - self._declined[0] < 60:
            return
        self._declined.append(now)
        await connection.send(Decline(assignment=assignment, reason=shown(reason, WORDS)))

    def _start(self, held: Held) -> None:
        id = held.assignment.id
        work = Work(self._place, held, self._reconnect)
        task = asyncio.create_task(work.run())
        self._works[id] = (work, task)
        task.add_done_callback(lambda task: self._ended(id, task))

    def _ended(self, id: str, task: "asyncio.Task[None]") -> None:
        self._works.pop(id, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("assignment %s ended by a fault", id, exc_info=error)

    def drop(self, id: str, outcome: str) -> None:
        """Stop working on an assignment, soon, and forget it."""
        task = asyncio.create_task(self._drop(id, outcome))
        self._side.add(task)
        task.add_done_callback(self._side.discard)

    async def _drop(self, id: str, outcome: str) -> None:
        if id in self._works:
            task = self._works[id][1]
            task.cancel()
            await asyncio.wait([task])
        try:
            self._place.store.drop(id, outcome)
        except StorageError as error:
            log.warning("%s", error)
        log.info("assignment %s: %s", id, outcome)
        shutil.rmtree(self._place.work_folder(id), ignore_errors=True)
