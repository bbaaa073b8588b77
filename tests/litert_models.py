"""Keras models of many layers for the tests of training on LiteRT, made by name."""

from typing import Any

import tensorflow as tf

from fededge.documents import Feature, Label, Schema
from fededge.task import Model

layers = tf.keras.layers
CLASSES = Label(kind="class", classes=4)
SHAPES = {"image": (9, 10, 3), "series": (3, 4), "flat": (7,), "volume": (4, 5, 6, 2)}


def model_of(name: str) -> tuple[Model, Schema]:
    """A model by its name here, and the schema of its examples."""
    shape = SHAPES[KINDS.get(name, "flat")]
    schema = Schema(features=[Feature(name="x", dtype="float32", shape=list(shape))], label=CLASSES)
    return Model(factory="tests.litert_models:build", arguments={"name": name}), schema


def build(schema: Schema, name: str) -> tf.keras.Model:
    """The model `name`: its layers between the input and an output for each class."""
    inputs = tf.keras.Input(schema.encoded_shape)
    x = globals()[f"_{name}"](inputs)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return tf.keras.Model(inputs, layers.Dense(schema.outputs, name="last")(x))


def small(schema: Schema) -> tf.keras.Model:
    """A dense network with moving statistics and dropout, for examples of any shape and any kind of classes."""
    examples = tf.keras.Input(schema.encoded_shape)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(layers.Dense(6, name="hidden")(examples)))
    x = layers.Dropout(0.3)(x)
    return tf.keras.Model(examples, layers.Dense(schema.outputs, name="last")(x))


def _images(x: Any) -> Any:
    x = layers.Conv2D(9, (3, 2), strides=2, padding="same")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="elu")(x)
    x = layers.MaxPool2D(3, strides=2, padding="same")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, activation="leaky_relu")(x)
    x = layers.SpatialDropout2D(0.3)(layers.Conv2D(6, 1)(x))
    x = layers.UpSampling2D(3)(x)
    x = layers.Conv2D(6, 3, groups=2, strides=2)(layers.ZeroPadding2D(2)(x))
    x = layers.AveragePooling2D(2, strides=1, padding="same")(layers.Cropping2D(((0, 1), (1, 0)))(x))
    return layers.SeparableConv2D(4, 2)(layers.GroupNormalization(3)(x))


def _steps(x: Any) -> Any:
    x = layers.LayerNormalization()(layers.Conv1D(4, 2, padding="causal")(x))
    x = layers.Bidirectional(layers.GRU(3, unroll=True, return_sequences=True, dropout=0.2))(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x)])
    x = layers.Concatenate()([x[:, -1], x[:, ::2][:, 0], layers.GlobalAveragePooling1D()(x)])
    return layers.Dropout(0.2)(x)


def _functions(x: Any) -> Any:
    names = (
        "gelu",
        "selu",
        "swish",
        "softplus",
        "softsign",
        "tanh",
        "exponential",
        "hard_sigmoid",
        "softmax",
    )
    parts = [layers.Dense(2, activation=name)(x) for name in names]
    x = layers.BatchNormalization()(layers.Concatenate()(parts))
    x = layers.UnitNormalization()(layers.PReLU()(x))
    near = tf.math.log1p(tf.abs(x)) + tf.math.expm1(-tf.square(x)) + tf.sin(x) * tf.cos(x)
    far = tf.reduce_logsumexp(x, 1, keepdims=True) + tf.reduce_max(x, 1, keepdims=True)
    scale = layers.Dot(1)([layers.Dense(3)(x), layers.Dense(3)(x)])
    return tf.cumsum(near + far, 1) * scale + tf.pow(tf.abs(x) + 0.1, 1.5) + tf.reverse(x, [1])


def _loop(x: Any) -> Any:
    return layers.LSTM(3, name="memory")(x)


def _volume(x: Any) -> Any:
    return layers.Conv3D(2, 2, name="solid")(x)


def _transposed(x: Any) -> Any:
    return layers.Conv2DTranspose(2, 3, name="wider")(x)


def _noise(x: Any) -> Any:
    return layers.GaussianNoise(0.1, name="noise")(x)


def _smooth(x: Any) -> Any:
    return layers.UpSampling2D(2, interpolation="bilinear", name="smooth")(layers.Conv2D(2, 2)(x))


def _own_gradient(x: Any) -> Any:
    @tf.custom_gradient
    def reversed_gradient(x: tf.Tensor) -> Any:
        return tf.identity(x), lambda g: -g

    return layers.Lambda(reversed_gradient)(layers.Dense(4)(x))


def _batch(x: Any) -> Any:
    return layers.Lambda(lambda x: x - tf.reduce_sum(x, 0))(layers.Dense(4)(x))


def _single(x: Any) -> Any:
    return layers.Dot(1, name="similar")([layers.Dense(4)(x), layers.Dense(4)(x)])


KINDS = {
    "images": "image",
    "steps": "series",
    "loop": "series",
    "volume": "volume",
    "transposed": "image",
    "noise": "flat",
    "smooth": "image",
}
