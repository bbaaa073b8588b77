"""Dense networks: multilayer perceptron, and regression without a hidden layer."""

from collections.abc import Sequence

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import outputs

layers = tf.keras.layers


def build(
    schema: Schema, hidden: Sequence[int] = (128, 64), dropout: float = 0.0, activation: str = "relu"
) -> tf.keras.Model:
    """A multilayer perceptron over examples of any shape.

    Args:
        schema: of the examples.
        hidden: units of each hidden layer.
        dropout: share of units that a training step leaves out after each of them.
        activation: of the hidden layers, by Keras's name.
    """
    examples = tf.keras.Input(schema.encoded_shape)
    x = layers.Flatten()(examples) if len(schema.encoded_shape) > 1 else examples
    for number, units in enumerate(hidden, 1):
        x = layers.Dense(units, activation=activation, name=f"hidden{number}")(x)
        if dropout:
            x = layers.Dropout(dropout)(x)
    return tf.keras.Model(examples, outputs(schema, x))


def regression(schema: Schema) -> tf.keras.Model:
    """Linear regression of numbers, logistic regression of classes."""
    return build(schema, hidden=())
