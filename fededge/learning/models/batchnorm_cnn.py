"""A CNN with batch normalization, whose moving statistics travel with the weights.

Dhyanesh Naik 2024, A Federated Learning Service Ecosystem for Secure and Flexible Model Sharing in Multi-Cloud
Environments (MSc research project, National College of Ireland), section 5.8: two convolutions, two dropouts, batch
normalization, max pooling and a dense layer with ReLU. The thesis gives no sizes; these are ours.
"""

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import outputs
from fededge.learning.models.shipped import check

layers = tf.keras.layers


def build(schema: Schema, dropout: float = 0.25) -> tf.keras.Model:
    """The CNN for images of at least 8x8 pixels.

    Args:
        schema: of the examples.
        dropout: share of units that a training step leaves out, before the dense layer and after it.
    """
    image = tf.keras.Input(check("batchnorm-cnn", schema))
    x = image
    for number, filters in enumerate((32, 64), 1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"norm{number}")(x))
        x = layers.MaxPool2D(2)(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    x = layers.Dense(128, activation="relu", name="dense1")(x)
    x = layers.Dropout(dropout)(x)
    return tf.keras.Model(image, outputs(schema, x, "logits"))
