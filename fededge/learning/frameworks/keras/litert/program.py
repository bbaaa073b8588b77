"""A client's work on a Keras model as functions that LiteRT can execute: a step of training, and an evaluation."""

from typing import Any, Protocol

import tensorflow as tf

from fededge import litert_program as names
from fededge.documents import Schema
from fededge.learning.frameworks.keras import batches, losses
from fededge.learning.frameworks.keras.layers import SEED_SIZE, Encode
from fededge.learning.frameworks.keras.litert.masks import Mask, MaskedGenerator
from fededge.learning.frameworks.keras.litert.replay import Replay
from fededge.learning.frameworks.keras.network import Network
from fededge.task import Model

Tensors = dict[str, tf.Tensor]


class Optimizer(Protocol):
    """As tff.learning.optimizers.Optimizer: numbers in its state are constants, whole numbers and tensors change."""

    def initialize(self, specs: Any) -> Any:
        """The state before the first step on variables of `specs`."""

    def next(self, state: Any, weights: Any, gradients: Any) -> tuple[Any, Any]:
        """State and weights after a step."""


class Program:
    """The client work; what its functions take and give is told in fededge.litert_program.

    Args:
        model: what is trained.
        schema: of the examples.
        seed: of the task.
        optimizer: of a client's local steps.
        batch_size: examples of a step.

    Raises:
        Refused: the model cannot be trained on LiteRT.

    Attributes:
        batch_size: as given.
        network: the model, with masks for dropout.
        masks: its dropouts in training.
        state: of the optimizer before the first step.
    """

    def __init__(
        self, model: Model, schema: Schema, seed: int, optimizer: Optimizer, batch_size: int
    ) -> None:
        found: list[Mask] = []
        self.network = Network(model, schema, seed, lambda gate, salt: MaskedGenerator(gate, salt, found))
        self._schema = schema
        self._loss = losses.loss_of(model, schema)
        self._optimizer = optimizer
        self.batch_size = batch_size
        self._learned = len(self.network.variables) - len(self.network.statistics)
        self._training, self._evaluation = self._traced(True), self._traced(False)
        self.masks = [mask for mask in found if mask.keep.graph is self._training.graph]
        variables = self.network.variables[: self._learned]
        self.state = optimizer.initialize(tuple(tf.TensorSpec(v.shape, v.dtype) for v in variables))

    def functions(self) -> dict[str, Any]:
        """The functions by the names of their signatures, traced.

        Raises:
            Refused: the model has an operation that cannot be trained.
        """
        given = self._specs()
        trained = given | {names.keep(i): _spec(mask.keep) for i, mask in enumerate(self.masks)}
        trained |= {names.memory(i): _spec(leaf) for i, leaf in enumerate(self.remembered(self.state))}
        return {
            names.TRAIN: _concrete(self._train, trained),
            names.EVALUATE: _concrete(self._evaluate, given),
        }

    def remembered(self, state: Any) -> list[Any]:
        """What of an optimizer's state changes from step to step."""
        pairs = zip(tf.nest.flatten(state), tf.nest.flatten(self.state), strict=True)
        return [leaf for leaf, first in pairs if _changes(first)]

    def _train(self, **given: tf.Tensor) -> Tensors:
        weights, weight = self._weights(given), given[names.WEIGHT]
        learned = weights[: self._learned]
        with tf.GradientTape() as tape:
            tape.watch(learned)
            replay, loss, sums = self._replayed(self._training, given)
            total = tf.reduce_sum(loss * weight)
            mean = total / tf.reduce_sum(weight)
        gradients = tape.gradient(mean, learned)
        memory = iter([given[names.memory(i)] for i in range(len(self.remembered(self.state)))])
        leaves = [
            next(memory) if _changes(leaf) else tf.constant(leaf) for leaf in tf.nest.flatten(self.state)
        ]
        state = tf.nest.pack_sequence_as(self.state, leaves)
        state, moved = self._optimizer.next(state, tuple(learned), tuple(gradients))
        statistics = [replay.assigned.get(i, weights[i]) for i in range(self._learned, len(weights))]
        made = {names.variable(i): value for i, value in enumerate([*moved, *statistics])}
        made |= {names.memory(i): value for i, value in enumerate(self.remembered(state))}
        return made | _told(total, sums, weight)

    def _evaluate(self, **given: tf.Tensor) -> Tensors:
        _, loss, sums = self._replayed(self._evaluation, given)
        return _told(tf.reduce_sum(loss * given[names.WEIGHT]), sums, given[names.WEIGHT])

    def _replayed(self, function: Any, given: Tensors) -> tuple[Replay, tf.Tensor, tf.Tensor]:
        """Loss and sums of each example."""
        inputs = zip(function.inputs, (names.EXAMPLES, names.LABELS), strict=False)
        feeds = {tensor.name: given[name] for tensor, name in inputs if name in given}
        feeds |= {
            mask.keep.name: given[names.keep(i)]
            for i, mask in enumerate(self.masks)
            if names.keep(i) in given
        }
        travelling = list(zip(self.network.variables, self._weights(given), strict=True))
        layers, others = self.network.layer_names, self.network.training.variables
        replay = Replay(function, feeds, travelling, others, layers, given[names.WEIGHT])
        loss, sums = replay.run(function.outputs)
        return replay, loss, sums

    def _traced(self, training: bool) -> Any:
        """Examples, labels and a seed to loss and sums of each example, as the model itself computes them."""
        encode, kind = Encode(self._schema), self._schema.label.kind

        def work(examples: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            raw = self.network.training({"examples": examples, "seed": seed}, training=training)
            wanted = batches.targets(self._schema, encode, examples, labels)
            return self._loss(wanted, raw), losses.by_example(kind, wanted, raw)

        specs = self._specs()
        labels = specs.get(names.LABELS, tf.TensorSpec((self.batch_size,), tf.float32))
        seed = tf.TensorSpec((self.batch_size, SEED_SIZE), tf.int64)
        return tf.function(work, autograph=False).get_concrete_function(specs[names.EXAMPLES], labels, seed)

    def _specs(self) -> dict[str, tf.TensorSpec]:
        label, b = self._schema.label, self.batch_size
        specs = {names.EXAMPLES: tf.TensorSpec((b, *self._schema.shape)), names.WEIGHT: tf.TensorSpec((b,))}
        if label.kind != "none":
            specs[names.LABELS] = tf.TensorSpec((b, *label.stored_shape), label.dtype)
        return specs | {names.variable(i): _spec(v) for i, v in enumerate(self.network.variables)}

    def _weights(self, given: Tensors) -> list[tf.Tensor]:
        return [given[names.variable(i)] for i in range(len(self.network.variables))]


def _changes(leaf: Any) -> bool:
    return isinstance(leaf, tf.Tensor | int)


def _told(total: tf.Tensor, sums: tf.Tensor, weight: tf.Tensor) -> Tensors:
    return {names.LOSS_SUM: total, names.SUMS: tf.reduce_sum(sums * tf.reshape(weight, (-1, 1)), 0)}


def _spec(like: Any) -> tf.TensorSpec:
    like = like if hasattr(like, "shape") else tf.constant(like)
    return tf.TensorSpec(like.shape, like.dtype)


def _concrete(function: Any, specs: dict[str, tf.TensorSpec]) -> Any:
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}
    return tf.function(function, autograph=False).get_concrete_function(**named)
