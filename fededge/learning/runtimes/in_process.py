"""Clients inside this process, one after another: for evaluating a simulated population."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from fededge import storage
from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport, Usage
from fededge.documents import Plan
from fededge.errors import FedEdgeError
from fededge.learning.frameworks import open_client
from fededge.seeds import seed_for
from fededge.update import UpdateFormat
from fededge.weights import Weights, to_bytes

Answer = TypeVar("Answer")


class InProcessClients:
    """The clients whose folders lie in `clients`; see `fededge.learning.interfaces.ClientRuntime`.

    Args:
        plan: folder of the exported plan.
        clients: folder with one folder for each client.
    """

    def __init__(self, plan: Path, clients: Path) -> None:
        self._plan = plan
        self._clients = clients.resolve()
        self._usage = Usage()
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-updates-")

    def __enter__(self) -> Self:
        """See ClientRuntime."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See ClientRuntime."""
        self._folder.cleanup()

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """See ClientRuntime."""
        form = UpdateFormat.of(Plan.read(self._plan / "plan.json"))
        size = len(to_bytes(weights))
        self._usage = Usage()

        def work(client: str) -> Path:
            begun = time.monotonic()
            update = open_client(self._plan, self._clients / client).train(
                weights, seed_for(seed, round_number, client)
            )
            file = Path(self._folder.name) / storage.digest(client.encode()).removeprefix("sha256:")
            storage.write(str(file), form.encode(update), durable=False)
            self._usage = self._usage.plus(size, form.size, time.monotonic() - begun)
            return file

        for client, file, failure in self._each(cohort, deadline_seconds, work):
            yield TrainingReport(client, file, failure)

    def enough(self) -> Usage:
        """See ClientRuntime."""
        return self._usage

    def evaluate(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""

        def work(client: str) -> Mapping[str, float]:
            return open_client(self._plan, self._clients / client).evaluate(weights)

        for client, counts, failure in self._each(clients, deadline_seconds, work):
            yield EvaluationReport(client, counts, failure)

    def ranges(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime."""

        def work(client: str) -> Mapping[str, Any]:
            return asdict(open_client(self._plan, self._clients / client).ranges(weights))

        for client, ranges, failure in self._each(clients, deadline_seconds, work):
            yield RangesReport(client, ranges, failure)

    def _each(
        self, clients: Sequence[str], deadline_seconds: float, work: Callable[[str], Answer]
    ) -> Iterator[tuple[str, Answer | None, str | None]]:
        end = time.monotonic() + deadline_seconds
        for client in clients:
            if time.monotonic() > end:
                yield client, None, f"no report within {deadline_seconds:g} s"
                continue
            try:
                yield client, work(client), None
            except FedEdgeError as error:
                yield client, None, str(error)
