"""A CNN for images: two 5x5 convolutions with pooling, one hidden layer; 317,066 parameters for 28x28x1, 10 classes.

Ta Phuong Bac, Minh Ngoc Tran and YoungHan Kim 2022, Serverless Computing Approach for Deploying Machine
Learning Applications in Edge Layer, Table 1.
"""

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import outputs
from fededge.learning.models.shipped import check

layers = tf.keras.layers


class PooledConvolution(tf.keras.layers.Conv2D):
    """Conv2D and a 2x2 max pool, where in training bias and activation (a rising one) come after the pool.

    That gives the values and gradients of the usual order, and bias and activation take a quarter of the
    work. Nor can a build of TensorFlow merge convolution and bias into one operation, which some builds do
    and which rounds otherwise. Runtimes for inference do merge them, so they get the usual order.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Activations [b, h, w, c] to [b, h', w', filters]."""
        if not training:
            return tf.nn.max_pool2d(super().call(inputs), 2, 2, "VALID")
        pooled = tf.nn.max_pool2d(self.convolution_op(inputs, self.kernel), 2, 2, "VALID")
        return self.activation(tf.nn.bias_add(pooled, self.bias))


def build(schema: Schema, dropout: float = 0.25) -> tf.keras.Model:
    """The CNN for images of at least 16x16 pixels.

    Args:
        schema: of the examples.
        dropout: share of units that a training step leaves out, after the first convolution and the hidden layer.
    """
    image = tf.keras.Input(check("cnn", schema))
    x = PooledConvolution(32, 5, activation="relu", name="conv1")(image)
    x = layers.Dropout(dropout)(x)
    x = PooledConvolution(64, 5, activation="relu", name="conv2")(x)
    x = layers.Dense(256, activation="relu", name="dense1")(layers.Flatten()(x))
    x = layers.Dropout(dropout)(x)
    return tf.keras.Model(image, outputs(schema, x, "logits"))
