"""A small residual network with group normalization, for color images such as 32x32x3.

Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun 2016, Deep Residual Learning for Image Recognition, section 4.2.
Group instead of batch normalization: Yuxin Wu and Kaiming He 2018, Group Normalization; for clients of unlike
data: Kevin Hsieh, Amar Phanishayee, Onur Mutlu and Phillip Gibbons 2020, The Non-IID Data Quagmire of Decentralized
Machine Learning, section 5.
"""

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import outputs
from fededge.learning.models.shipped import check

layers = tf.keras.layers
EPSILON = 1e-3


class GroupNormalization(tf.keras.layers.Layer):
    """Group normalization of [b, h, w, c] by operations that LiteRT executes for any batch size.

    Args:
        groups: of channels; they divide c.
    """

    def __init__(self, groups: int, **options: object) -> None:
        super().__init__(**options)
        self.groups = groups

    def build(self, shape: tf.TensorShape) -> None:
        """A factor and an offset for each channel."""
        self.gamma = self.add_weight("gamma", (shape[-1],), initializer="ones")
        self.beta = self.add_weight("beta", (shape[-1],), initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Each group less its mean and by its standard deviation."""
        _, height, width, channels = inputs.shape
        grouped = tf.reshape(inputs, [-1, height * width, self.groups, channels // self.groups])
        centered = grouped - tf.reduce_mean(grouped, [1, 3], keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), [1, 3], keepdims=True)
        normal = tf.reshape(centered * tf.math.rsqrt(variance + EPSILON), [-1, height, width, channels])
        return normal * self.gamma + self.beta

    def get_config(self) -> dict[str, object]:
        """See Keras."""
        return {**super().get_config(), "groups": self.groups}


def build(schema: Schema, filters: int = 16, blocks: int = 1, groups: int = 4) -> tf.keras.Model:
    """Three stages of residual blocks, each of half the size and twice the filters of the one before.

    Args:
        schema: of the examples.
        filters: of the first stage; a multiple of `groups`.
        blocks: in each stage.
        groups: of channels that are normalized together.
    """
    image = tf.keras.Input(check("resnet", schema))
    x = _convolution(image, filters, 1, groups)
    for stage in range(3):
        for block in range(blocks):
            x = _block(x, filters * 2**stage, 2 if stage and not block else 1, groups)
    return tf.keras.Model(image, outputs(schema, layers.GlobalAveragePooling2D()(x)))


def _block(x: tf.Tensor, filters: int, stride: int, groups: int) -> tf.Tensor:
    inside = layers.Conv2D(filters, 3, padding="same", use_bias=False)(
        _convolution(x, filters, stride, groups)
    )
    inside = GroupNormalization(groups)(inside)
    if stride != 1 or x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
    return layers.ReLU()(layers.Add()([x, inside]))


def _convolution(x: tf.Tensor, filters: int, stride: int, groups: int) -> tf.Tensor:
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(GroupNormalization(groups)(x))
