"""Combining updates: TFF's weighted mean and server optimizer over update files.

The worker reads each update file itself, so no update passes through Python or gRPC, and clients are
aggregated in groups, so memory does not grow with their number. `mean` is the plain numpy aggregation
that the tests hold TFF against.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fededge.learning.tff.worker import Worker
from fededge.learning.update import Update, UpdateFormat
from fededge.task import ServerOptimizer
from fededge.weights import Weights

Arrays = list[np.ndarray]


def server_optimizer(server: ServerOptimizer) -> tff.learning.optimizers.Optimizer:
    """The optimizer that applies the averaged delta to the global weights (Reddi et al. 2021)."""
    if server.optimizer == "adam":
        return tff.learning.optimizers.build_adam(server.learning_rate, beta_1=server.momentum or 0.9)
    if server.optimizer == "yogi":
        return tff.learning.optimizers.build_yogi(server.learning_rate, beta_1=server.momentum or 0.9)
    return tff.learning.optimizers.build_sgdm(server.learning_rate, momentum=server.momentum or None)


class MeanAggregator:
    """A TFF computation from (state, weights, update files) to the next (state, weights)."""

    def __init__(self, form: UpdateFormat, server: ServerOptimizer, worker: Worker) -> None:
        self._names = list(form.shapes)
        self._worker = worker
        tensors = [tff.TensorType(np.float32, shape) for shape in form.shapes.values()]
        weights_type = tff.to_type(tff.learning.models.ModelWeights(tensors, []))
        mean = tff.aggregators.MeanFactory().create(weights_type.trainable, tff.TensorType(np.float32))
        finalizer = tff.learning.templates.build_apply_optimizer_finalizer(
            server_optimizer(server), weights_type
        )

        @tff.tensorflow.computation(np.str_)
        def read_update(path):  # type: ignore[no-untyped-def]
            body = tf.strings.substr(tf.io.read_file(path), form.offset, form.size - form.offset)
            numbers = tf.io.decode_raw(body, tf.float32)
            sizes = [int(np.prod(shape)) for shape in form.shapes.values()]
            *parts, examples, _, _ = tf.split(numbers, [*sizes, 1, 1, 1])
            delta = [tf.reshape(p, s) for p, s in zip(parts, form.shapes.values(), strict=True)]
            return delta, tf.reshape(examples, [])

        @tff.federated_computation
        def initialize():  # type: ignore[no-untyped-def]
            return tff.federated_zip((mean.initialize(), finalizer.initialize()))

        state_type = initialize.type_signature.result

        @tff.federated_computation(
            state_type,
            tff.FederatedType(weights_type, tff.SERVER),
            tff.FederatedType(np.str_, tff.CLIENTS),
        )
        def next_round(state, weights, paths):  # type: ignore[no-untyped-def]
            update = tff.federated_map(read_update, paths)
            averaged = mean.next(state[0], update[0], update[1])
            applied = finalizer.next(state[1], weights, averaged.result)
            return tff.federated_zip((averaged.state, applied.state)), applied.result

        self._initialize, self._next = initialize, next_round

    def initialize(self) -> Arrays:
        """The server state before the first round, as a flat list of arrays."""
        with self._worker.context():
            self._template = self._initialize()
        return [np.asarray(leaf) for leaf in tf.nest.flatten(self._template)]

    def next(self, state: Arrays, weights: Weights, updates: Sequence[Path]) -> tuple[Arrays, Weights]:
        """Apply the mean of the screened `updates` (files), weighted by their examples."""
        if not hasattr(self, "_template"):
            self.initialize()
        packed = tf.nest.pack_sequence_as(self._template, state)
        current = tff.learning.models.ModelWeights([weights[name] for name in self._names], [])
        with self._worker.context(len(updates)):
            server, applied = self._next(packed, current, [str(path) for path in updates])
        result = dict(zip(self._names, map(np.asarray, applied.trainable), strict=True))
        return [np.asarray(leaf) for leaf in tf.nest.flatten(server)], result


def mean(updates: Iterable[Update]) -> Weights:
    """Mean of the updates' deltas weighted by their examples, streamed, in float64."""
    total = 0.0
    sums: dict[str, np.ndarray] = {}
    for update in updates:
        total += update.examples
        for name, value in update.delta.items():
            sums[name] = sums.get(name, np.zeros(())) + value.astype(np.float64) * update.examples
    return {name: (value / total).astype(np.float32) for name, value in sums.items()}
