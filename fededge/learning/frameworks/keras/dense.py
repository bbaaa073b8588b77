"""A Keras model out of dense layers that were learned elsewhere."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.frameworks.keras.network import answering as model_of


def answering(schema: Schema, layers: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> tf.keras.Model:
    """The model that answers examples of `schema` with dense layers, as ModelSpec.inference gives it.

    Args:
        schema: of the examples; encoded ones are flattened.
        layers: kernel float32 [in, out], bias float32 [out] and activation by Keras's name of each.
    """
    encoded = tf.keras.Input(schema.encoded_shape)
    x = tf.keras.layers.Flatten()(encoded) if len(schema.encoded_shape) > 1 else encoded
    for kernel, _, activation in layers:
        x = tf.keras.layers.Dense(kernel.shape[1], activation=activation)(x)
    body = tf.keras.Model(encoded, x)
    body.set_weights([array for kernel, bias, _ in layers for array in (kernel, bias)])
    return model_of(body, schema)
