"""What stands before and after a Keras model: encoding of examples, seeded randomness, the meaning of outputs."""

from typing import Any

import numpy as np
import tensorflow as tf

from fededge.documents import Schema
from fededge.encoding import Columns, columns

SEED_SIZE = 2


class Encode(tf.keras.layers.Layer):
    """Examples float32 [b, *schema.shape] as the model sees them: see `fededge.encoding`."""

    def __init__(self, schema: Schema, **options: object) -> None:
        super().__init__(**options)
        self._columns = columns(schema)
        self._encoded = schema.encoded_shape

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """float32 [b, *schema.encoded_shape]."""
        if self._columns is None:
            return inputs
        how: Columns = self._columns
        width = int(np.prod(inputs.shape[1:]))
        flat = tf.reshape(inputs, [-1, width])
        if not np.array_equal(how.source, np.arange(width)):
            flat = tf.gather(flat, how.source, axis=1)
        numbers = flat
        if how.log.any():
            unit = np.where(how.log > 0, how.log, 1).astype(np.float32)
            size = tf.math.log(1 + tf.abs(flat) * (1 / unit))
            numbers = tf.where(how.log > 0, tf.where(flat < 0, -size, size), flat)
        encoded = (numbers - how.mean) * (1 / how.std)
        if how.categories.any():
            hot = tf.cast(tf.abs(flat - how.code) < 0.5, tf.float32)
            chosen = how.categories.astype(np.float32)
            encoded = encoded * (1 - chosen) + hot * chosen
        return tf.reshape(encoded, [-1, *self._encoded])


class Finish(tf.keras.layers.Layer):
    """A model's raw outputs as answers float32 [b, schema.outputs]: probabilities, or numbers in their unit."""

    def __init__(self, schema: Schema, **options: object) -> None:
        super().__init__(**options)
        self._label = schema.label
        self._outputs = schema.outputs

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Answers of raw outputs [b, ...]."""
        if self._label.kind in ("class", "sequence"):
            inputs = tf.nn.softmax(inputs)
        elif self._label.kind == "multi-label":
            inputs = tf.nn.sigmoid(inputs)
        elif self._label.mean:
            inputs = inputs * np.array(self._label.std, np.float32) + np.array(self._label.mean, np.float32)
        return tf.reshape(inputs, [-1, self._outputs]) if inputs.shape.rank != 2 else inputs


class SeedGate(tf.keras.layers.Layer):
    """Passes examples on, and keeps the seed that came with them for the random layers behind it."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.seed: tf.Tensor | None = None

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """The first of (examples [b, ...], seed int64 [b, 2])."""
        examples, seed = inputs
        self.seed = seed[0]
        return examples


class SeededGenerator:
    """Stands in for the random generator of a Keras layer: draws from the seed at the gate, and from nothing else.

    So the same task, round, client and step always draw the same numbers, in any process and after any restart.

    Args:
        gate: in front of the model.
        salt: of the layer: no two draw alike.
    """

    def __init__(self, gate: SeedGate, salt: int) -> None:
        self._gate = gate
        self._salt = salt

    def _maybe_init(self) -> None:
        """Keras calls this when it builds a layer; there is nothing to make."""

    def make_seed_for_stateless_op(self) -> tf.Tensor:
        """The seed of a draw, int64 [2]."""
        return self._gate.seed + tf.constant([self._salt, 0], tf.int64)

    def make_legacy_seed(self) -> None:
        """None: no stateful operation has a seed here."""

    def random_uniform(
        self,
        shape: Any,
        minval: float = 0.0,
        maxval: float | None = None,
        dtype: Any = None,
        nonce: Any = None,
    ) -> tf.Tensor:
        """As Keras's."""
        return tf.random.stateless_uniform(
            shape, self.make_seed_for_stateless_op(), minval, maxval, dtype or tf.float32
        )

    def random_normal(
        self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, nonce: Any = None
    ) -> tf.Tensor:
        """As Keras's."""
        return tf.random.stateless_normal(
            shape, self.make_seed_for_stateless_op(), mean, stddev, dtype or tf.float32
        )

    def truncated_normal(
        self, shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, nonce: Any = None
    ) -> tf.Tensor:
        """As Keras's."""
        return tf.random.stateless_truncated_normal(
            shape, self.make_seed_for_stateless_op(), mean, stddev, dtype or tf.float32
        )

    def dropout(self, inputs: tf.Tensor, rate: float, noise_shape: Any = None) -> tf.Tensor:
        """Inverted dropout: a unit is left out with probability `rate`, the others grow to keep the mean."""
        shape = tf.shape(inputs) if noise_shape is None else noise_shape
        draw = tf.random.stateless_uniform(shape, self.make_seed_for_stateless_op())
        return tf.where(draw >= rate, inputs / (1 - rate), tf.zeros_like(inputs))
