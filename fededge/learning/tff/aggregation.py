"""Combining updates: TFF's weighted mean and server optimizer over what clients hand in.

The worker reads each update file itself, so no update passes through Python or gRPC, and clients are
aggregated in groups, so memory does not grow with their number. In a simulation the worker makes the updates
itself. Moving statistics of a model are averaged; the server optimizer moves all else. `mean` is the plain numpy
aggregation that the tests hold TFF against.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fededge.learning.tff.worker import Worker
from fededge.task import ServerOptimizer
from fededge.update import Update, UpdateFormat
from fededge.weights import Weights

Arrays = list[np.ndarray]
LocalWork = Callable[[Sequence[tf.Tensor], tf.Tensor], dict[str, Any]]
"""Global weights (in the order of the form) and a client (string scalar) to delta, examples, loss_sum and sums."""


def server_optimizer(server: ServerOptimizer) -> tff.learning.optimizers.Optimizer:
    """The optimizer that applies the averaged delta to the global weights (Reddi et al. 2021)."""
    if server.optimizer == "adam":
        return tff.learning.optimizers.build_adam(server.learning_rate, beta_1=server.momentum or 0.9)
    if server.optimizer == "yogi":
        return tff.learning.optimizers.build_yogi(server.learning_rate, beta_1=server.momentum or 0.9)
    return tff.learning.optimizers.build_sgdm(server.learning_rate, momentum=server.momentum or None)


class MeanAggregator:
    """A TFF computation from (state, weights, clients) to the next (state, weights) and the sums of training.

    Args:
        form: of the updates.
        statistics: names of the variables that are averaged only.
        server: the server optimizer.
        worker: executes it.
        work: what a client does, where the worker does it; None where clients are update files.
    """

    def __init__(
        self,
        form: UpdateFormat,
        statistics: Collection[str],
        server: ServerOptimizer,
        worker: Worker,
        work: Callable[[], LocalWork] | None = None,
    ) -> None:
        self._names = list(form.shapes)
        self._worker = worker
        specs = [tff.TensorType(np.float32, shape) for shape in form.shapes.values()]
        moved = [index for index, name in enumerate(self._names) if name not in statistics]
        tensors = tff.to_type(specs)
        parameters = tff.to_type(tff.learning.models.ModelWeights([specs[index] for index in moved], []))
        mean = tff.aggregators.MeanFactory().create(tensors, tff.TensorType(np.float32))
        finalizer = tff.learning.templates.build_apply_optimizer_finalizer(
            server_optimizer(server), parameters
        )

        @tff.tensorflow.computation(np.str_)
        def read_update(path):  # type: ignore[no-untyped-def]
            body = tf.strings.substr(tf.io.read_file(path), form.offset, form.size - form.offset)
            numbers = tf.io.decode_raw(body, tf.float32)
            sizes = [int(np.prod(shape)) for shape in form.shapes.values()]
            *parts, told = tf.split(numbers, [*sizes, len(form.scalars)])
            delta = [tf.reshape(p, s) for p, s in zip(parts, form.shapes.values(), strict=True)]
            return delta, told[0], told

        made_here = None if work is None else _maker(form, tensors, work)

        @tff.tensorflow.computation(tensors)
        def split(values):  # type: ignore[no-untyped-def]
            values = list(values)
            return tff.learning.models.ModelWeights([values[index] for index in moved], [])

        @tff.tensorflow.computation(tensors)
        def gradient(values):  # type: ignore[no-untyped-def]
            values = list(values)
            return [values[index] for index in moved]

        @tff.tensorflow.computation(tensors, tensors, parameters)
        def join(weights, delta, applied):  # type: ignore[no-untyped-def]
            weights, delta = list(weights), list(delta)
            made = [weights[index] - delta[index] for index in range(len(weights))]
            for index, value in zip(moved, list(applied.trainable), strict=True):
                made[index] = value
            return made

        @tff.federated_computation
        def initialize():  # type: ignore[no-untyped-def]
            return tff.federated_zip((mean.initialize(), finalizer.initialize()))

        state_type = initialize.type_signature.result

        @tff.federated_computation(
            state_type,
            tff.FederatedType(tensors, tff.SERVER),
            tff.FederatedType(np.str_, tff.CLIENTS),
        )
        def next_round(state, weights, clients):  # type: ignore[no-untyped-def]
            if made_here is None:
                update = tff.federated_map(read_update, clients)
            else:
                update = tff.federated_map(made_here, (tff.federated_broadcast(weights), clients))
            result = mean.next(state[0], update[0], update[1])
            applied = finalizer.next(
                state[1], tff.federated_map(split, weights), tff.federated_map(gradient, result.result)
            )
            joined = tff.federated_map(join, (weights, result.result, applied.result))
            return tff.federated_zip((result.state, applied.state)), joined, tff.federated_sum(update[2])

        self._scalars = form.scalars
        self._initialize, self._next = initialize, next_round

    def initialize(self) -> Arrays:
        """The server state before the first round, as a flat list of arrays."""
        with self._worker.context():
            self._template = self._initialize()
        return [np.asarray(leaf) for leaf in tf.nest.flatten(self._template)]

    def next(
        self, state: Arrays, weights: Weights, clients: Sequence[str]
    ) -> tuple[Arrays, Weights, dict[str, float]]:
        """Apply the mean of the updates of `clients` (screened update files), weighted by their examples.

        Returns:
            The next state and weights, and the sums over all clients, by the names of the form's scalars.
        """
        if not hasattr(self, "_template"):
            self.initialize()
        packed = tf.nest.pack_sequence_as(self._template, state)
        current = [weights[name] for name in self._names]
        with self._worker.context(len(clients)):
            server, applied, told = self._next(packed, current, list(clients))
        result = dict(zip(self._names, map(np.asarray, applied), strict=True))
        sums = dict(zip(self._scalars, np.asarray(told).astype(float).tolist(), strict=True))
        return [np.asarray(leaf) for leaf in tf.nest.flatten(server)], result, sums


def _maker(form: UpdateFormat, tensors: tff.Type, work: Callable[[], LocalWork]) -> tff.Computation:
    """From global weights and a client to its delta, examples and scalars."""

    @tff.tensorflow.computation(tensors, np.str_)
    def make_update(weights, client):  # type: ignore[no-untyped-def]
        made = work()(list(weights), client)
        told = {"loss_sum": made["loss_sum"], **made["sums"]}
        scalars = [made["examples"], *(told[name.removeprefix("metrics/")] for name in form.scalars[1:])]
        return made["delta"], made["examples"], tf.stack(scalars)

    return make_update


def mean(updates: Iterable[Update]) -> Weights:
    """Mean of the updates' deltas weighted by their examples, streamed, in float64."""
    total = 0.0
    sums: dict[str, np.ndarray] = {}
    for update in updates:
        total += update.examples
        for name, value in update.delta.items():
            sums[name] = sums.get(name, np.zeros(())) + value.astype(np.float64) * update.examples
    return {name: (value / total).astype(np.float32) for name, value in sums.items()}
