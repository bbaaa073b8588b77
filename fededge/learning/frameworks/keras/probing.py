"""The ranges of a Keras graph's activations, for models whose plan is no SavedModel."""

import numpy as np
import tensorflow as tf

from fededge.clients import Ranges
from fededge.documents import Schema
from fededge.learning.calibration import measured
from fededge.learning.frameworks.keras.network import activations
from fededge.learning.streaming import blocks


def ranges(body: tf.keras.Model, schema: Schema, x: np.ndarray, y: np.ndarray) -> Ranges:
    """Of the input and each layer of `body` on stored examples x [n, ...] with labels y; see Client.ranges."""
    layers = activations(body).values()
    probe = tf.keras.Model(body.inputs, [*body.inputs, *(layer.output for layer in layers)])
    smallest, largest = [], []
    for encoded, _ in blocks(schema, x, y):
        flat = [tensor.numpy().reshape(len(encoded), -1) for tensor in probe(encoded, training=False)]
        smallest.append(np.stack([tensor.min(axis=1) for tensor in flat], axis=1))
        largest.append(np.stack([tensor.max(axis=1) for tensor in flat], axis=1))
    return measured(np.concatenate(smallest), np.concatenate(largest))
