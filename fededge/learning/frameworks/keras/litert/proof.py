"""Proof that a LiteRT file does what the model does: one step on made-up examples, against TensorFlow's.

Gradients that a user's layer defines by itself are lost in a LiteRT file, and a layer that mixes the examples of a batch
would take what fills it up for examples. Nothing tells that but the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fededge import litert_program as names
from fededge import philox
from fededge.documents import Feature, Schema
from fededge.learning.frameworks.keras import batches, losses
from fededge.learning.frameworks.keras.layers import Encode
from fededge.learning.frameworks.keras.litert.forms import Refused
from fededge.learning.frameworks.keras.litert.program import Optimizer, Program
from fededge.learning.frameworks.keras.network import Network
from fededge.task import Model
from fededge.weights import Weights

MOST = 3
"""Examples of the step; the rest of the batch is filled up."""
SEED = (20_240_229, 1)
MOVED = 0.02
"""Standard deviation by which initial weights are moved, so that none is zero."""
TOLERANCE = 0.01
"""Of a tensor's largest change; rounding where activations begin, or where pooled values tie, stays far below."""
ROUNDING = 1e-6
FLOOR = 1e-3
"""Of the largest change of all tensors: below it is rounding, as where a bias has no effect."""


def prove(
    data: bytes, program: Program, model: Model, schema: Schema, seed: int, optimizer: Optimizer
) -> None:
    """Compare a step of the LiteRT file `data` with TensorFlow's own.

    Args:
        data: the file.
        program: that it was made from.
        model: that it trains.
        schema: of the examples.
        seed: of the task.
        optimizer: of a client's local steps.

    Raises:
        Refused: they differ.
    """
    network = Network(model, schema, seed)
    rng = np.random.default_rng(seed)
    weights = _moved(network, rng)
    count = max(1, min(MOST, program.batch_size - 1))
    x, y = made_up(schema, count, rng)
    before = [weights[name] for name in network.names]
    found = _on_litert(data, program, before, x, y)
    wanted = _in_tensorflow(network, program, model, schema, optimizer, weights, x, y)
    if not np.isfinite(wanted.loss_sum):
        raise Refused(
            "its loss of made-up examples is not finite, so that nothing is proven of a file for LiteRT"
        )
    _compare(
        [("the loss", wanted.loss_sum, found[names.LOSS_SUM]), ("the score", wanted.sums, found[names.SUMS])]
    )
    _compare([("the optimizer", value, found[names.memory(i)]) for i, value in enumerate(wanted.memory)])
    # Where the optimizer remembers gradients, its step may be their sign alone: what it remembers is compared instead.
    first = len(network.body.trainable_variables) if wanted.memory else 0
    places = range(first, len(before))
    moved = [(network.names[i], wanted.weights[i], found[names.variable(i)], before[i]) for i in places]
    _compare([(name, after - start, got - start) for name, after, got, start in moved])


def _compare(tensors: Sequence[tuple[str, Any, Any]]) -> None:
    """Refuse where one of the tensors, each wanted and found by a name for people, differs."""
    largest = max((float(np.abs(wanted).max(initial=0)) for _, wanted, _ in tensors), default=0.0)
    for name, wanted, got in tensors:
        error, scale = float(np.abs(got - wanted).max(initial=0)), float(np.abs(wanted).max(initial=0))
        if not error <= TOLERANCE * max(scale, FLOOR * largest) + ROUNDING:
            raise Refused(
                f"a step on LiteRT is not TensorFlow's: in {name} it differs by {error:.2g} of {scale:.2g}, as where a "
                "layer has a gradient of its own or mixes the examples of a batch"
            )


def made_up(schema: Schema, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Examples x float32 [count, *schema.shape] and stored labels that `schema` allows."""
    columns = [_values(feature, count, rng) for feature in schema.features]
    x = np.concatenate(columns, axis=1).reshape(count, *schema.shape).astype(np.float32)
    label = schema.label
    shape = (count, 0) if label.kind == "none" else (count, *label.stored_shape)
    if label.classes:
        y = rng.integers(0, label.classes if label.dtype == "int64" else 2, shape).astype(label.dtype)
    else:
        y = rng.normal(0, 1, shape).astype(np.float32)
    if label.mean:
        y = (
            y.reshape(count, -1) * np.array(label.std, np.float32) + np.array(label.mean, np.float32)
        ).reshape(shape)
    return x, y


def _values(feature: Feature, count: int, rng: np.random.Generator) -> np.ndarray:
    shape = (count, feature.size)
    if feature.categories:
        return rng.integers(0, len(feature.categories), shape)
    if feature.dtype == "uint8":
        return rng.integers(0, 256, shape) / 255
    if feature.dtype == "bool":
        return rng.integers(0, 2, shape)
    values = rng.normal(0, 1, shape) * (feature.std or 1.0) + (feature.mean or 0.0)
    values = np.sinh(values) * feature.log if feature.log else values
    return np.round(values) if feature.dtype == "int64" else values


def _moved(network: Network, rng: np.random.Generator) -> Weights:
    given = network.weights()
    statistics = {variable.name for variable in network.described if variable.statistic}
    return {
        name: value if name in statistics else (value + rng.normal(0, MOVED, value.shape)).astype(np.float32)
        for name, value in given.items()
    }


def _on_litert(
    data: bytes, program: Program, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    count, size = len(x), program.batch_size
    places = np.minimum(np.arange(size), count) % count
    given = {names.EXAMPLES: x[places], names.WEIGHT: (np.arange(size) < count).astype(np.float32)}
    given |= {names.variable(i): value for i, value in enumerate(weights)}
    for i, mask in enumerate(program.masks):
        shape = tuple(mask.keep.shape)
        drawn = (count, *shape[1:]) if shape[0] == size else shape
        keep = np.zeros(shape, np.float32)
        keep[: drawn[0]] = philox.kept(drawn, (SEED[0] + mask.salt, SEED[1]), mask.rate)
        given[names.keep(i)] = keep
    step = tf.lite.Interpreter(model_content=data, num_threads=1).get_signature_runner(names.TRAIN)
    details = step.get_input_details()
    if names.LABELS in details:
        given[names.LABELS] = y[places]
    for name, detail in details.items():
        given.setdefault(name, np.zeros(detail["shape"], detail["dtype"]))
    found: dict[str, np.ndarray] = step(**given)
    return found


@dataclass(frozen=True)
class _Step:
    """What TensorFlow made: variables, what the optimizer remembers, loss and sums."""

    weights: list[np.ndarray]
    memory: list[np.ndarray]
    loss_sum: float
    sums: np.ndarray


def _in_tensorflow(
    network: Network,
    program: Program,
    model: Model,
    schema: Schema,
    optimizer: Optimizer,
    weights: Weights,
    x: np.ndarray,
    y: np.ndarray,
) -> _Step:
    network.assign(weights)
    stored = np.zeros(len(x)) if schema.label.kind == "none" else y
    seed = np.tile(np.array([SEED]), (len(x), 1))
    with tf.GradientTape() as tape:
        raw = network.training({"examples": x, "seed": seed}, training=True)
        wanted = batches.targets(schema, Encode(schema), x, stored)
        loss = losses.loss_of(model, schema)(wanted, raw)
        mean = tf.reduce_mean(loss)
    learned = network.body.trainable_variables
    state = tf.nest.map_structure(
        lambda leaf: tf.constant(leaf) if isinstance(leaf, float | int) else leaf, program.state
    )
    given = tuple(map(tf.convert_to_tensor, learned))
    state, moved = optimizer.next(state, given, tuple(tape.gradient(mean, learned)))
    sums = losses.by_example(schema.label.kind, wanted, raw)
    return _Step(
        [value.numpy() for value in (*moved, *network.statistics)],
        [value.numpy() for value in program.remembered(state)],
        float(tf.reduce_sum(loss)),
        tf.reduce_sum(sums, 0).numpy(),
    )
