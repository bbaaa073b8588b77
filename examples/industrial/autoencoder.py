"""An autoencoder for windows of vibration: what it cannot give back was not seen in healthy machines."""

import tensorflow as tf


def build(schema, code=12):
    """From [64] to [64] through `code` numbers.

    Args:
        schema: of the examples.
        code: numbers that a window is squeezed into.
    """
    layers = tf.keras.layers
    window = tf.keras.Input(schema.encoded_shape)
    x = layers.Dense(48, activation="relu")(window)
    x = layers.Dense(code)(x)
    x = layers.Dense(48, activation="relu")(x)
    return tf.keras.Model(window, layers.Dense(schema.outputs)(x))
