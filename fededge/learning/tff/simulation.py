"""The simulation engine: whole rounds inside the TFF worker, which reads the clients' files itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fededge.errors import DivergedError
from fededge.learning.frameworks.keras import batches, models
from fededge.learning.interfaces import RoundResult, ServerState
from fededge.learning.seeds import seed_for
from fededge.learning.tff.aggregation import server_optimizer
from fededge.learning.tff.plan import LOOP, client_optimizer, tff_model
from fededge.learning.tff.worker import Worker
from fededge.task import Learning, Model, Operation
from fededge.weights import Weights


class SimulationEngine:
    """Federated averaging by TFF over client folders of this machine.

    Args:
        model: what is trained.
        learning: the algorithm.
        operation: the time limit of the TFF worker.
        seed: of the task.
        clients: folder with one folder for each client.
        examples: training examples by client.
    """

    def __init__(
        self,
        model: Model,
        learning: Learning,
        operation: Operation,
        seed: int,
        clients: Path,
        examples: Mapping[str, int],
    ) -> None:
        self._seed = seed
        self._clients = clients.resolve()
        self._examples = examples
        self._worker = Worker(operation.worker_timeout_seconds)
        self._names = models.names(models.training_model(model))
        self._epochs = learning.client.epochs
        work = learning.client

        @tff.tensorflow.computation(np.str_)
        def client_data(client):  # type: ignore[no-untyped-def]
            parts = tf.strings.split(client, "\t")
            seed = tf.strings.to_number(parts[1], tf.int64)
            return batches.training_batches(parts[0], seed, work.batch_size, work.epochs)

        process = tff.learning.algorithms.build_weighted_fed_avg(
            model_fn=lambda: tff_model(models.training_model(model)),
            client_optimizer_fn=client_optimizer(work),
            server_optimizer_fn=server_optimizer(learning.server),
            loop_implementation=LOOP,
        )
        self._process = tff.simulation.compose_dataset_computation_with_learning_process(client_data, process)
        self._template: Any = None

    def __enter__(self) -> Self:
        self._worker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.close()

    def available(self) -> list[str]:
        """See Engine."""
        return sorted(self._examples)

    def initialize(self) -> ServerState:
        """See Engine."""
        return [np.asarray(leaf) for leaf in tf.nest.flatten(_server_parts(self._initial()))]

    def next(
        self, weights: Weights, server: ServerState, round_number: int, cohort: Sequence[str]
    ) -> RoundResult:
        """See Engine."""
        template = self._initial()
        parts = tf.nest.pack_sequence_as(_server_parts(template), server)
        state = tff.learning.templates.LearningAlgorithmState(
            tff.learning.models.ModelWeights([weights[name] for name in self._names], []), *parts
        )
        clients = [
            f"{self._clients / client / 'train'}\t{seed_for(self._seed, round_number, client)}"
            for client in sorted(cohort)
        ]
        with self._worker.context(len(clients)):
            result = self._process.next(state, clients)
        metrics = result.metrics["client_work"]["train"]
        examples = float(metrics["num_examples"])
        expected = sum(self._examples[client] for client in cohort) * self._epochs
        if examples != expected:  # TFF leaves a client out whose weights are no longer finite
            raise DivergedError(
                f"round {round_number}: local training diverged to NaN or infinity at one client or more "
                f"({examples:g} of {expected} samples count): lower learning.client.learning_rate"
            )
        return RoundResult(
            weights=dict(
                zip(self._names, map(np.asarray, result.state.global_model_weights.trainable), strict=True)
            ),
            server=[np.asarray(leaf) for leaf in tf.nest.flatten(_server_parts(result.state))],
            reported=sorted(cohort),
            examples=examples,
            loss=float(metrics["loss"]),
            accuracy=float(metrics["accuracy"]),
        )

    def _initial(self) -> Any:
        if self._template is None:
            with self._worker.context():
                self._template = self._process.initialize()
        return self._template


def _server_parts(state: Any) -> tuple[Any, ...]:
    return (state.distributor, state.client_work, state.aggregator, state.finalizer)
