"""Clients of a simulated population spread over workers: the replicas of a job on a cluster, or processes here.

Coordinator and replicas reach each other by way of a store alone (fededge.learning.runtimes.exchange). A coordinator
that was lost is followed by another, which finds the replicas and what they handed in, and gives its order again: who
has reported already does not work twice.
"""

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from fededge import archives, storage
from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport, Usage
from fededge.documents import Plan, ReplicaOrder, ReplicaReport, Shards
from fededge.errors import DocumentError, KubeflowError, StorageError
from fededge.learning.data.folders import client_names
from fededge.learning.runtimes.exchange import Exchange
from fededge.update import UpdateFormat
from fededge.weights import Weights, to_bytes

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between looks for reports; they grow while none comes."""
STORED_AT_ONCE = 8


class Replicas(Protocol):
    """Where replicas run."""

    def start(self, shards: str) -> None:
        """Let the replicas for the document Shards with this digest run; those that run already go on."""

    def lost(self) -> Mapping[int, str]:
        """Why, by index, of the replicas that will not come back; others that ended are replaced."""

    def state(self) -> str:
        """How they stand, in words."""

    def close(self) -> None:
        """End them."""


class JobClients:
    """The clients whose folders lie in `clients`; see `fededge.learning.interfaces.ClientRuntime`.

    Args:
        plan: folder of the exported plan.
        clients: folder with one folder for each client.
        root: URL of the exchange; removed in the end.
        replicas: where they run; started with the first question, and ended with this.
        count: how many there are.
        population: URL of the folder that gets the clients' folders, for replicas that cannot read `clients`; None:
            they can.
        say: told in a line what cannot be cleaned up.
    """

    def __init__(
        self,
        plan: Path,
        clients: Path,
        root: str,
        replicas: Replicas,
        count: int,
        population: str | None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._plan = plan
        self._clients = clients
        self._exchange = Exchange(root)
        self._replicas = replicas
        self._count = count
        self._population = population
        self._say = say
        self._shards: Shards | None = None
        self._last: ReplicaOrder | None = None
        self._usage = Usage()
        self._update_bytes = UpdateFormat.of(Plan.read(plan / "plan.json")).size
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-updates-")

    def __enter__(self) -> Self:
        """See ClientRuntime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the replicas, and remove the exchange."""
        try:
            self._replicas.close()
            if self._shards is not None:
                storage.remove_folder(self._exchange.root)
        except (KubeflowError, StorageError) as failure:
            self._say(f"workers are not cleaned up: {failure}")
        self._folder.cleanup()

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """See ClientRuntime."""
        self._usage = Usage(bytes_sent=len(to_bytes(weights)) * len(cohort))
        for client, report, url in self._ask("train", weights, round_number, cohort, deadline_seconds, seed):
            self._usage = self._usage.plus(seconds=report.seconds)
            file = Path(self._folder.name) / url.rsplit("/", 1)[-1]
            try:
                if report.failure is None:
                    storage.write(str(file), storage.read(url, self._update_bytes), durable=False)
                    self._usage = self._usage.plus(received=file.stat().st_size)
            except StorageError as error:
                report = ReplicaReport(failure=str(error))
            yield TrainingReport(client, None if report.failure else file, report.failure)
            file.unlink(missing_ok=True)

    def enough(self) -> Usage:
        """See ClientRuntime."""
        self._rest()
        return self._usage

    def evaluate(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""
        for client, report, _ in self._ask("evaluate", weights, round_number, clients, deadline_seconds):
            yield EvaluationReport(client, report.counts, report.failure)

    def ranges(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime."""
        for client, report, _ in self._ask("ranges", weights, round_number, clients, deadline_seconds):
            yield RangesReport(client, report.ranges, report.failure)

    def _ask(
        self,
        do: Literal["train", "evaluate", "ranges"],
        weights: Weights,
        round_number: int,
        clients: Sequence[str],
        deadline_seconds: float,
        seed: int = 0,
    ) -> Iterator[tuple[str, ReplicaReport, str]]:
        """Each client with its report as it comes, or why there is none, and the URL that an update has."""
        numbers = self._started().numbers
        data = to_bytes(weights)
        order = ReplicaOrder(
            do=do,
            token=secrets.token_hex(8),
            weights=storage.digest(data),
            seed=seed,
            round=round_number,
            clients=sorted(clients),
        )
        self._prepare(order, data)
        end, pause = time.monotonic() + deadline_seconds, FIRST_PAUSE
        waiting = {numbers[client]: client for client in order.clients}
        self._exchange.give(order)
        try:
            while waiting:
                lost = self._replicas.lost()  # before the reports are looked for: it may have left some
                arrived = self._exchange.reported(order) & waiting.keys()
                failed = {number for number in waiting.keys() - arrived if number % self._count in lost}
                for number in sorted(arrived | failed):
                    client, url = waiting.pop(number), self._exchange.update(order, number)
                    if number in arrived:
                        yield client, self._report(order, number), url
                    else:
                        yield client, ReplicaReport(failure=lost[number % self._count]), url
                seconds_left = end - time.monotonic()
                if seconds_left <= 0:
                    break
                pause = FIRST_PAUSE if arrived else min(pause * 1.5, LONGEST_PAUSE)
                if waiting:
                    time.sleep(min(pause, seconds_left))
            late = f"no report within {deadline_seconds:g} s; {self._replicas.state()}" if waiting else ""
            for number, client in sorted(waiting.items()):
                yield client, ReplicaReport(failure=late), self._exchange.update(order, number)
        finally:
            if self._last is order:
                self._rest()

    def _started(self) -> Shards:
        """What the replicas run for; they were started."""
        if self._shards is None:
            plan = archives.packed(self._plan)
            shards = Shards(
                plan=storage.digest(plan), archives=self._population or "", clients=self._stored()
            )
            storage.write(self._exchange.plan, plan)
            shards.write(self._exchange.shards)
            self._rest()
            self._replicas.start(storage.digest(shards.to_bytes()))
            self._shards = shards
        return self._shards

    def _stored(self) -> dict[str, str | None]:
        """Digests of the archives of the clients' folders, which are in the store by then; None where none is needed."""
        population, names = self._population, client_names(self._clients)
        if population is None:
            return dict.fromkeys(names)
        there = set(storage.names(population))

        def store(client: str) -> str:
            data = archives.packed(self._clients / client)
            digest = storage.digest(data)
            name = f"{digest.removeprefix('sha256:')}.zip"
            if name not in there:
                storage.write(storage.join(population, name), data)
            return digest

        with ThreadPoolExecutor(STORED_AT_ONCE) as threads:
            return dict(zip(names, threads.map(store, names), strict=True))

    def _prepare(self, order: ReplicaOrder, weights: bytes) -> None:
        """Remove the answers to another order than `order`; of an earlier try of it, what failed is tried again."""
        if self._last is not None and self._last.folder != order.folder:
            storage.remove_folder(self._exchange.folder(self._last))
        self._last = order
        for number in self._exchange.reported(order):
            if self._report(order, number).failure is not None:
                self._exchange.forget(order, number)
        storage.write(self._exchange.weights(order), weights)

    def _report(self, order: ReplicaOrder, number: int) -> ReplicaReport:
        try:
            return self._exchange.read_report(order, number)
        except (DocumentError, StorageError) as error:
            return ReplicaReport(failure=str(error))

    def _rest(self) -> None:
        self._exchange.give(ReplicaOrder(do="rest", token=secrets.token_hex(8)))
