"""Dropout by masks that are handed in: a device draws them, since LiteRT's own random numbers are not TensorFlow's."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fededge.learning.frameworks.keras.layers import SeededGenerator, SeedGate


@dataclass(frozen=True)
class Mask:
    """A dropout in a traced graph.

    Attributes:
        keep: tensor that is 1 for a unit that is kept, else 0.
        salt: of its layer.
        rate: share of units that it leaves out.
    """

    keep: tf.Tensor
    salt: int
    rate: float


class MaskedGenerator(SeededGenerator):
    """Dropout whose masks are placeholders, which are added to `found` while a graph with a known batch is traced."""

    def __init__(self, gate: SeedGate, salt: int, found: list[Mask]) -> None:
        super().__init__(gate, salt)
        self._found = found

    def dropout(self, inputs: tf.Tensor, rate: float, noise_shape: Any = None) -> tf.Tensor:
        """See SeededGenerator."""
        shape = inputs.shape if noise_shape is None else tf.zeros(noise_shape).shape
        if not shape.is_fully_defined():
            return super().dropout(inputs, rate, noise_shape)
        keep = tf.compat.v1.placeholder(tf.float32, shape)
        self._found.append(Mask(keep, self._salt, float(rate)))
        return inputs / (1 - rate) * keep
