"""Clients inside this process, one after another: for evaluating a simulated population."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from fededge import storage
from fededge.errors import FedEdgeError
from fededge.learning.interfaces import Client, EvaluationReport, RangesReport, TrainingReport
from fededge.learning.seeds import seed_for
from fededge.learning.update import UpdateFormat
from fededge.weights import Weights, shapes

Answer = TypeVar("Answer")


class InProcessClients:
    """The clients whose folders lie in `clients`; see `fededge.learning.interfaces.ClientRuntime`.

    Args:
        clients: folder with one folder for each client.
        open_client: makes the client of a folder.
    """

    def __init__(self, clients: Path, open_client: Callable[[Path], Client]) -> None:
        self._clients = clients.resolve()
        self._open = open_client
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-updates-")

    def available(self) -> list[str]:
        """See ClientRuntime."""
        return sorted(folder.name for folder in self._clients.iterdir() if folder.is_dir())

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """See ClientRuntime."""
        form = UpdateFormat(shapes(weights))

        def work(client: str) -> Path:
            update = self._open(self._clients / client).train(weights, seed_for(seed, round_number, client))
            file = Path(self._folder.name) / storage.digest(client.encode()).removeprefix("sha256:")
            storage.write(str(file), form.encode(update))
            return file

        for client, file, failure in self._each(cohort, deadline_seconds, work):
            yield TrainingReport(client, file, failure)

    def evaluate(
        self, weights: Weights, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""

        def work(client: str) -> Mapping[str, float]:
            return self._open(self._clients / client).evaluate(weights)

        for client, counts, failure in self._each(clients, deadline_seconds, work):
            yield EvaluationReport(client, counts, failure)

    def ranges(
        self, weights: Weights, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime."""

        def work(client: str) -> Mapping[str, Any]:
            return asdict(self._open(self._clients / client).ranges(weights))

        for client, ranges, failure in self._each(clients, deadline_seconds, work):
            yield RangesReport(client, ranges, failure)

    def close(self) -> None:
        """See ClientRuntime."""
        self._folder.cleanup()

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
