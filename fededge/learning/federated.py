"""The federated engine: clients run the plan elsewhere, TFF aggregates what they hand in."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fededge import storage
from fededge.errors import QuorumError, StorageError, UpdateError
from fededge.learning.engines import Outcome
from fededge.learning.frameworks.keras import models
from fededge.learning.runtimes import Runtime
from fededge.learning.tff.aggregation import Aggregator
from fededge.learning.tff.worker import Worker
from fededge.learning.update import Layout, Update
from fededge.task import FederatedTask
from fededge.weights import Weights, shapes


class FederatedEngine:
    """Federated averaging over the clients that `runtime` reaches."""

    def __init__(self, task: FederatedTask, runtime: Runtime) -> None:
        self._task = task
        self._runtime = runtime
        self._layout = Layout(shapes(models.initial_weights(task)))
        self._worker = Worker(task.learning.cohort.deadline_seconds)

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-updates-")
        self._worker.__enter__()
        self._aggregator = Aggregator(self._layout, self._task.learning.server, self._worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runtime.close()
        self._worker.close()
        self._folder.cleanup()

    def initialize(self) -> list[np.ndarray]:
        """See Engine."""
        return self._aggregator.initialize()

    def next(
        self, weights: Weights, server: list[np.ndarray], round_number: int, cohort: list[str]
    ) -> Outcome:
        """See Engine."""
        learning = self._task.learning
        reports = self._runtime.train(
            self._task.seed, round_number, weights, sorted(cohort), learning.cohort.deadline_seconds
        )
        accepted: list[Path] = []
        updates: list[Update] = []
        failed = dict(reports.failed)
        for client, file in sorted(reports.updates.items()):
            try:
                data = storage.read(str(file), self._layout.size)
                update = self._layout.screen(data, learning.max_update_norm)
            except (UpdateError, StorageError) as error:
                failed[client] = str(error)
                continue
            accepted.append(Path(self._folder.name) / f"{len(accepted):06d}")
            storage.write(str(accepted[-1]), data)
            updates.append(Update({}, update.examples, update.correct, update.loss_sum))
        if len(accepted) < self._task.quorum:
            reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failed.items()))
            raise QuorumError(
                f"round {round_number} has {len(accepted)} usable reports of {len(cohort)} where the quorum is "
                f"{self._task.quorum} ({reasons}). Mend these clients or lower learning.cohort.quorum, then run again"
            )
        next_server, next_weights = self._aggregator.next(server, weights, accepted)
        for path in accepted:
            path.unlink()
        examples = sum(update.examples for update in updates)
        return Outcome(
            weights=next_weights,
            server=next_server,
            reported=sorted(set(reports.updates) - set(failed)),
            failed=failed,
            examples=examples,
            loss=sum(update.loss_sum for update in updates) / examples,
            accuracy=sum(update.correct for update in updates) / examples,
        )
