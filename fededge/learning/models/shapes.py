"""What models that ship take and give, by the schema of the examples."""

import math

import tensorflow as tf

from fededge.documents import Schema
from fededge.errors import TaskError


def images(schema: Schema, name: str, smallest: int) -> tuple[int, ...]:
    """The shape (height, width, channels) of examples.

    Raises:
        TaskError: they are no images, or smaller than `smallest` pixels.
    """
    shape = schema.encoded_shape
    if len(shape) != 3 or min(shape[:2]) < smallest:
        raise TaskError(
            f"model {name} takes images of at least {smallest}x{smallest} pixels with channels, but an example has the "
            f"shape {list(shape)}: resize the images, or take another model, such as mlp"
        )
    return shape


def series(schema: Schema, name: str) -> tuple[int, ...]:
    """The shape (steps, channels) of examples.

    Raises:
        TaskError: they are no series.
    """
    shape = schema.encoded_shape
    if len(shape) != 2:
        raise TaskError(
            f"model {name} takes series of shape [steps, channels], but an example has the shape {list(shape)}: take "
            "another model, such as mlp"
        )
    return shape


def outputs(schema: Schema, x: tf.Tensor, name: str = "outputs") -> tf.Tensor:
    """A last layer, without activation, that gives what the schema's label asks for, from features `x` [b, k]."""
    wanted = schema.label.output_shape or schema.encoded_shape
    made = tf.keras.layers.Dense(math.prod(wanted), name=name)(x)
    return made if len(wanted) == 1 else tf.keras.layers.Reshape(wanted)(made)
