"""A small residual network with group normalization, for color images such as 32x32x3.

Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun 2016, Deep Residual Learning for Image Recognition, section 4.2.
Group instead of batch normalization: Yuxin Wu and Kaiming He 2018, Group Normalization; for clients of unlike
data: Kevin Hsieh, Amar Phanishayee, Onur Mutlu and Phillip Gibbons 2020, The Non-IID Data Quagmire of Decentralized
Machine Learning, section 5.
"""

import tensorflow as tf

from fededge.documents import Schema
from fededge.learning.models.shapes import images, outputs

layers = tf.keras.layers


def build(schema: Schema, filters: int = 16, blocks: int = 1, groups: int = 4) -> tf.keras.Model:
    """Three stages of residual blocks, each of half the size and twice the filters of the one before.

    Args:
        schema: of the examples.
        filters: of the first stage; a multiple of `groups`.
        blocks: in each stage.
        groups: of channels that are normalized together.
    """
    image = tf.keras.Input(images(schema, "resnet", 8))
    x = _convolution(image, filters, 1, groups)
    for stage in range(3):
        for block in range(blocks):
            x = _block(x, filters * 2**stage, 2 if stage and not block else 1, groups)
    return tf.keras.Model(image, outputs(schema, layers.GlobalAveragePooling2D()(x)))


def _block(x: tf.Tensor, filters: int, stride: int, groups: int) -> tf.Tensor:
    inside = layers.Conv2D(filters, 3, padding="same", use_bias=False)(_convolution(x, filters, stride, groups))
    inside = layers.GroupNormalization(groups)(inside)
    if stride != 1 or x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
    return layers.ReLU()(layers.Add()([x, inside]))


def _convolution(x: tf.Tensor, filters: int, stride: int, groups: int) -> tf.Tensor:
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.GroupNormalization(groups)(x))
