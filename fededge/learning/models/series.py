"""Models of time series [steps, channels], small enough for devices."""

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import outputs
from fededge.learning.models.shipped import check

layers = tf.keras.layers


def convolutional(schema: Schema, filters: int = 32, kernel: int = 5, blocks: int = 2) -> tf.keras.Model:
    """1-D convolutions, each with pooling, and the mean over time.

    Args:
        schema: of the examples.
        filters: of the first convolution; each next one has twice as many.
        kernel: steps that a filter sees.
        blocks: convolutions.
    """
    examples = tf.keras.Input(check("cnn1d", schema))
    x = examples
    for number in range(blocks):
        x = layers.Conv1D(
            filters * 2**number, kernel, padding="same", activation="relu", name=f"conv{number + 1}"
        )(x)
        x = layers.MaxPool1D(2, padding="same")(x)
    return tf.keras.Model(examples, outputs(schema, layers.GlobalAveragePooling1D()(x)))


def recurrent(schema: Schema, units: int = 32) -> tf.keras.Model:
    """A GRU over the steps; unrolled, so that runtimes without loops execute it.

    Args:
        schema: of the examples.
        units: of its state.
    """
    examples = tf.keras.Input(check("gru", schema))
    x = layers.GRU(units, unroll=True, name="gru")(examples)
    return tf.keras.Model(examples, outputs(schema, x))
