"""The simulation engine: whole rounds inside the TFF worker, which reads the clients' files itself."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from fededge import metrics
from fededge.documents import ClientCounts, Plan
from fededge.errors import DivergedError
from fededge.learning.interfaces import RoundResult, ServerState
from fededge.learning.tff.aggregation import LocalWork, MeanAggregator
from fededge.learning.tff.plan import LocalTraining
from fededge.learning.tff.worker import Worker
from fededge.seeds import seed_for
from fededge.task import Learning, Model, Operation
from fededge.update import UpdateFormat
from fededge.weights import Weights


class SimulationEngine:
    """Federated averaging by TFF over client folders of this machine; for Keras models.

    Args:
        model: what is trained.
        learning: the algorithm.
        operation: the time limit of the TFF worker.
        seed: of the task.
        plan: what clients would execute elsewhere.
        clients: folder with one folder for each client.
    """

    def __init__(
        self,
        model: Model,
        learning: Learning,
        operation: Operation,
        seed: int,
        plan: Plan,
        clients: Path,
    ) -> None:
        self._seed = seed
        self._clients = clients.resolve()
        self._epochs = learning.client.epochs
        self._worker = Worker(operation.worker_timeout_seconds)
        form = UpdateFormat.of(plan)
        self._kind = form.kind
        places = {name: index for index, name in enumerate(form.shapes)}

        def work() -> LocalWork:
            local = LocalTraining(model, plan.example, seed, learning.client)

            def train(weights: Sequence[tf.Tensor], client: tf.Tensor) -> dict[str, Any]:
                parts = tf.strings.split(client, "\t")
                ordered = [weights[places[variable.name]] for variable in plan.variables]
                made = local.train(ordered, parts[0], tf.strings.to_number(parts[1], tf.int64))
                delta = dict(zip((variable.name for variable in plan.variables), made["delta"], strict=True))
                sums = dict(zip(metrics.SUMS[form.kind], tf.unstack(made["sums"]), strict=True))
                return {**made, "delta": [delta[name] for name in form.shapes], "sums": sums}

            return train

        statistics = {variable.name for variable in plan.variables if variable.statistic}
        self._aggregator = MeanAggregator(form, statistics, learning.server, self._worker, work)

    def __enter__(self) -> Self:
        self._worker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.close()

    def initialize(self) -> ServerState:
        """See Engine."""
        return self._aggregator.initialize()

    def next(
        self, weights: Weights, server: ServerState, round_number: int, cohort: Sequence[ClientCounts]
    ) -> RoundResult:
        """See Engine."""
        names = sorted(client.id for client in cohort)
        clients = [
            f"{self._clients / name / 'train'}\t{seed_for(self._seed, round_number, name)}" for name in names
        ]
        next_server, next_weights, told = self._aggregator.next(server, weights, clients)
        examples = told["examples"]
        expected = sum(client.train for client in cohort) * self._epochs
        if examples != expected:  # TFF leaves a client out whose weights are no longer finite
            raise DivergedError(
                f"round {round_number}: local training diverged to NaN or infinity at one client or more "
                f"({examples:g} of {expected} samples count): lower learning.client.learning_rate"
            )
        sums = {name: told[f"metrics/{name}"] for name in metrics.SUMS[self._kind]}
        return RoundResult(
            weights=next_weights,
            server=next_server,
            reported=names,
            examples=examples,
            loss=told["metrics/loss_sum"] / examples,
            score=metrics.score(self._kind, examples, sums),
        )
