"""What models that ship give, by the schema of the examples."""

import math

import tensorflow as tf

from fededge.documents import Schema


def outputs(schema: Schema, x: tf.Tensor, name: str = "outputs") -> tf.Tensor:
    """A last layer, without activation, that gives what the schema's label asks for, from features `x` [b, k]."""
    wanted = schema.label.output_shape or schema.encoded_shape
    made = tf.keras.layers.Dense(math.prod(wanted), name=name)(x)
    return made if len(wanted) == 1 else tf.keras.layers.Reshape(wanted)(made)
