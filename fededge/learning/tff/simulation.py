"""The simulation engine: whole rounds inside the TFF worker, which reads the clients' files itself."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fededge.errors import DivergedError
from fededge.learning.data import folders
from fededge.learning.engines import Outcome
from fededge.learning.frameworks.keras import batches, models
from fededge.learning.tff.aggregation import server_optimizer
from fededge.learning.tff.plan import LOOP, client_optimizer, tff_model
from fededge.learning.tff.worker import Worker
from fededge.task import FederatedTask
from fededge.weights import Weights


class SimulationEngine:
    """Federated averaging by TFF over the client folders in `data`."""

    def __init__(self, task: FederatedTask, data: Path) -> None:
        self._task = task
        self._clients = data.resolve() / "clients"
        self._examples = {client["id"]: client["train"] for client in folders.population(data)["clients"]}
        self._worker = Worker(task.learning.cohort.deadline_seconds)
        self._names = sorted(models.initial_weights(task))
        work = task.learning.client

        @tff.tensorflow.computation(np.str_)
        def client_data(client):  # type: ignore[no-untyped-def]
            parts = tf.strings.split(client, "\t")
            seed = tf.strings.to_number(parts[1], tf.int64)
            return batches.training_batches(parts[0], seed, work.batch_size, work.epochs)

        process = tff.learning.algorithms.build_weighted_fed_avg(
            model_fn=lambda: tff_model(models.training_model(task)),
            client_optimizer_fn=client_optimizer(work),
            server_optimizer_fn=server_optimizer(task.learning.server),
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

    def initialize(self) -> list[np.ndarray]:
        """See Engine."""
        return [np.asarray(leaf) for leaf in tf.nest.flatten(_server_parts(self._initial()))]

    def next(
        self, weights: Weights, server: list[np.ndarray], round_number: int, cohort: list[str]
    ) -> Outcome:
        """See Engine."""
        template = self._initial()
        parts = tf.nest.pack_sequence_as(_server_parts(template), server)
        model = models.names(models.training_model(self._task))
        state = tff.learning.templates.LearningAlgorithmState(
            tff.learning.models.ModelWeights([weights[name] for name in model], []), *parts
        )
        clients = [
            f"{self._clients / client / 'train'}\t{batches.seed_for(self._task.seed, round_number, client)}"
            for client in sorted(cohort)
        ]
        with self._worker.context(len(clients)):
            result = self._process.next(state, clients)
        metrics = result.metrics["client_work"]["train"]
        examples = float(metrics["num_examples"])
        expected = sum(self._examples[client] for client in cohort) * self._task.learning.client.epochs
        if examples != expected:  # TFF leaves a client out whose weights are no longer finite
            raise DivergedError(
                f"round {round_number}: local training diverged to NaN or infinity at one client or more "
                f"({examples:g} of {expected} samples count): lower learning.client.learning_rate"
            )
        return Outcome(
            weights=dict(
                zip(model, map(np.asarray, result.state.global_model_weights.trainable), strict=True)
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
