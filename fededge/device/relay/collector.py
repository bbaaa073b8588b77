"""Takes messages in: gathers a batch, writes it, synced, and only then acknowledges it."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from fededge.device.pace import Pace
from fededge.device.relay.connection import Arrived, Connection
from fededge.device.relay.intake import Intake, Request
from fededge.device.relay.items import Item, Refusal
from fededge.device.relay.payload import Reason
from fededge.device.relay.store import Store
from fededge.errors import StorageError

log = logging.getLogger("fededge.relay")
FULL = 500
"""Messages of a batch."""
GATHER_SECONDS = 0.1
"""That a batch is gathered for, at most, and `IDLE_SECONDS` since its last message: then the broker may wait for us."""
IDLE_SECONDS = 0.01
WAKE_SECONDS = 0.5
PRUNE_SECONDS = 5.0


class Collector:
    """Takes messages from `connection` through `intake` into `store`, in one thread.

    Args:
        ask: takes a request to be answered; False where there are too many.
    """

    def __init__(
        self, store: Store, intake: Intake, connection: Connection, ask: Callable[[Request], bool]
    ) -> None:
        self._store, self._intake, self._connection, self._ask = store, intake, connection, ask
        self._pruned = time.monotonic()

    def run(self, ending: threading.Event) -> None:
        """Take messages in until `ending`."""
        while not ending.is_set():
            arrived = self._gathered()
            items = [item for each in arrived if (item := self._item(each))]
            items += [Refusal("", "", Reason.room)] * self._connection.dropped()
            if items and not self._written(items, ending):
                return
            for each in arrived:
                self._connection.acknowledge(each)
            self._prune()

    def _gathered(self) -> list[Arrived]:
        """The messages of a batch; none where none came for a while."""
        queued, batch = self._connection.arrived, []
        try:
            batch.append(queued.get(timeout=WAKE_SECONDS))
            until = time.monotonic() + GATHER_SECONDS
            while len(batch) < FULL and time.monotonic() < until:
                batch.append(queued.get(timeout=IDLE_SECONDS))
        except queue.Empty:
            pass
        return batch

    def _item(self, arrived: Arrived) -> Item | None:
        """What is to be written of a message; a request goes its way."""
        taken = self._intake.take(arrived.message)
        if not isinstance(taken, Request):
            return taken
        if not self._ask(taken):
            return Refusal(taken.group, taken.sensor, Reason.busy)
        return Refusal(taken.group, taken.sensor, taken.reason) if taken.reason else None

    def _written(self, items: list[Item], ending: threading.Event) -> bool:
        """Write a batch, as often as it takes; False where the end comes first."""
        pace = Pace(1.0, 30.0)
        while True:
            try:
                self._store.commit(items)
                return True
            except StorageError as error:
                log.error("%s; the broker keeps what comes meanwhile", error)
            if ending.wait(pace.next()):
                return False

    def _prune(self) -> None:
        if time.monotonic() - self._pruned < PRUNE_SECONDS:
            return
        self._pruned = time.monotonic()
        try:
            self._store.prune()
        except StorageError as error:
            log.error("%s", error)
