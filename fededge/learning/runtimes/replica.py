"""A replica: lets its shard of a simulated population do what the coordinator orders by way of a store.

    python -m fededge.learning.runtimes.replica --orders URL --shards DIGEST --index I --replicas N --data FOLDER --idle S

It needs the plan's framework and never TensorFlow Federated. It runs its clients one after another, each from its own
folder below FOLDER, which is fetched from the store where it is missing; plan and folders are proven by their digests.
A replica that was lost is followed by another with the same index, which goes on with what has no report yet. It ends
well when it hears no new order for S seconds: then its coordinator is gone.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fededge import archives, storage
from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport
from fededge.documents import ReplicaOrder, ReplicaReport, Shards
from fededge.errors import IntegrityError
from fededge.learning.runtimes.exchange import Exchange
from fededge.learning.runtimes.in_process import InProcessClients
from fededge.plan_runner import ONE_THREAD
from fededge.processes import ended_by_exception
from fededge.weights import Weights, from_bytes

TRIES = 2
"""How often replicas begin with a client, before it is left out as one that ends them."""
LOOK = 1.0
"""Seconds between looks for a new order while there is work."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between looks while there is none: they grow."""


@dataclass(frozen=True)
class ReplicaProgram:
    """How replicas are started.

    Attributes:
        root: URL of their exchange.
        replicas: how many there are.
        data: folder with a folder for each client.
        idle_seconds: for how long they wait for a new order.
    """

    root: str
    replicas: int
    data: str
    idle_seconds: float

    def arguments(self, shards: str, index: int | str) -> list[str]:
        """What follows `python`, for the replica `index` (or a word that stands for it) of the `shards` with a digest."""
        given = {
            "--orders": self.root,
            "--shards": shards,
            "--index": str(index),
            "--replicas": str(self.replicas),
            "--data": self.data,
            "--idle": f"{self.idle_seconds:g}",
        }
        return ["-m", "fededge.learning.runtimes.replica", *(word for pair in given.items() for word in pair)]


def main() -> None:
    """Obey orders until none comes for long, or SIGTERM comes."""
    parser = argparse.ArgumentParser(prog="fededge.learning.runtimes.replica", description=__doc__)
    parser.add_argument("--orders", required=True, help="URL of the exchange")
    parser.add_argument("--shards", required=True, help="digest of shards.json there")
    parser.add_argument("--index", type=int, required=True, help="number of this replica, from 0")
    parser.add_argument("--replicas", type=int, required=True, help="how many there are")
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder for each client")
    parser.add_argument("--idle", type=float, required=True, help="seconds to wait for a new order")
    given = parser.parse_args()

    os.environ.update(ONE_THREAD)
    with ended_by_exception(), tempfile.TemporaryDirectory(prefix="fededge-replica-") as folder:
        exchange = Exchange(given.orders)
        shards = exchange.read_shards(given.shards)
        plan = Path(folder) / "plan"
        archives.unpack(storage.read_verified(exchange.plan, shards.plan), plan)
        shard = Shard(shards, given.index, given.replicas, given.data)
        Replica(exchange, shard, InProcessClients(plan, given.data)).serve(given.idle)


class Shard:
    """The clients of the replica `index` of `replicas`, with their folders in `data`."""

    def __init__(self, shards: Shards, index: int, replicas: int, data: Path) -> None:
        numbers = shards.numbers
        self.clients = {client: number for client, number in numbers.items() if number % replicas == index}
        self._shards = shards
        self._data = data
        data.mkdir(parents=True, exist_ok=True)

    def fetch(self, client: str) -> None:
        """Let the folder of `client` be here.

        Raises:
            IntegrityError: what the store has in its place has another digest.
            StorageError: it cannot be read or written.
        """
        digest = self._shards.clients[client]
        if digest is None or (self._data / client).is_dir():
            return
        url = storage.join(self._shards.archives, f"{digest.removeprefix('sha256:')}.zip")
        archives.unpack(storage.read_verified(url, digest), self._data / client)


class Replica:
    """Obeys the orders of `exchange` for the clients of `shard`, which `clients` runs."""

    def __init__(self, exchange: Exchange, shard: Shard, clients: InProcessClients) -> None:
        self._exchange = exchange
        self._shard = shard
        self._clients = clients
        self._looked = 0.0

    def serve(self, idle_seconds: float) -> None:
        """Obey one order after another, until no new one comes for so long."""
        done: ReplicaOrder | None = None
        heard, pause = time.monotonic(), FIRST_PAUSE
        while time.monotonic() - heard < idle_seconds:
            order = self._exchange.read_order()
            if order == done:
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
            else:
                self._obey(order)
                done, heard, pause = order, time.monotonic(), FIRST_PAUSE

    def _obey(self, order: ReplicaOrder) -> None:
        """Do what `order` says, or as much as is done when another takes its place."""
        todo = {
            client: self._shard.clients[client] for client in order.clients if client in self._shard.clients
        }
        reported = self._exchange.reported(order) if todo else set()
        todo = {client: number for client, number in todo.items() if number not in reported}
        if not todo:
            return
        assert order.weights
        weights = from_bytes(storage.read_verified(self._exchange.weights(order), order.weights))
        begun = self._exchange.begun(order)
        # Who ended a replica before comes last, and holds up nobody.
        for client in sorted(todo, key=lambda client: (begun[todo[client]], todo[client])):
            if self._superseded(order):
                return
            number = todo[client]
            if begun[number] >= TRIES:
                failure = (
                    f"{TRIES} replicas ended while they worked on it: give the step `workers` more memory"
                )
                report = ReplicaReport(failure=failure)
            else:
                self._exchange.begin(order, number, begun[number] + 1)
                begin = time.monotonic()
                report = self._answer(order, weights, client, number)
                report = report.model_copy(update={"seconds": time.monotonic() - begin})
            self._exchange.report(order, number, report)
            print(f"fededge: {order.do} {order.round}: {client}: {report.failure or 'done'}", flush=True)

    def _superseded(self, order: ReplicaOrder) -> bool:
        if time.monotonic() - self._looked < LOOK:
            return False
        self._looked = time.monotonic()
        return self._exchange.read_order() != order

    def _answer(self, order: ReplicaOrder, weights: Weights, client: str, number: int) -> ReplicaReport:
        """What comes of `order` at one client; its update is in the store by then."""
        try:
            self._shard.fetch(client)
        except IntegrityError as error:
            return ReplicaReport(failure=str(error))
        (report,) = self._asked(order, weights, client)
        if isinstance(report, EvaluationReport):
            counts = None if report.counts is None else dict(report.counts)
            return ReplicaReport(failure=report.failure, counts=counts)
        if isinstance(report, RangesReport):
            ranges = None if report.ranges is None else dict(report.ranges)
            return ReplicaReport(failure=report.failure, ranges=ranges)
        if report.update is not None:
            storage.write(self._exchange.update(order, number), storage.read(str(report.update)))
            report.update.unlink()
        return ReplicaReport(failure=report.failure)

    def _asked(
        self, order: ReplicaOrder, weights: Weights, client: str
    ) -> Iterator[TrainingReport | EvaluationReport | RangesReport]:
        """The coordinator keeps the time."""
        forever = float("inf")
        if order.do == "evaluate":
            yield from self._clients.evaluate(weights, order.round, [client], forever)
        elif order.do == "ranges":
            yield from self._clients.ranges(weights, order.round, [client], forever)
        else:
            yield from self._clients.train(weights, order.seed, order.round, [client], forever)


if __name__ == "__main__":
    main()
