"""A client's examples as a tf.data pipeline over its own files: streamed, seeded, one thread.

A batch is {"x": {"examples": float32 [b, *shape], "seed": int64 [b, 2]}, "y": targets}; see
`fededge.encoding.targets`. The seed is (the client's seed of this round, the step), from which random layers
draw; the same seed shuffles.
"""

import collections
import math

import numpy as np
import tensorflow as tf

from fededge.documents import Schema
from fededge.examples import HEADER
from fededge.learning.frameworks.keras.layers import SEED_SIZE, Encode

SHUFFLE_BUFFER = 10_000
SHUFFLE_BYTES = 64 << 20
"""A buffer of large examples holds fewer of them."""


def spec(schema: Schema) -> collections.OrderedDict:
    """The types of a batch."""
    x = collections.OrderedDict(
        examples=tf.TensorSpec([None, *schema.shape], tf.float32),
        seed=tf.TensorSpec([None, SEED_SIZE], tf.int64),
    )
    return collections.OrderedDict(
        x=x, y=tf.TensorSpec([None, *_target_shape(schema)], _target_dtype(schema))
    )


def shuffle_buffer(schema: Schema) -> int:
    """Examples ahead among which the next one is drawn."""
    return min(SHUFFLE_BUFFER, max(1, SHUFFLE_BYTES // _record_bytes(schema)))


def training_batches(
    schema: Schema, folder: tf.Tensor, seed: tf.Tensor, batch_size: int, epochs: int
) -> tf.data.Dataset:
    """Shuffled batches of the examples under `folder` (string scalar) for `epochs` passes.

    A batch may span two epochs; only the last one may be smaller than `batch_size`.
    """
    buffer = shuffle_buffer(schema)
    shuffled = tf.data.Dataset.range(epochs).flat_map(
        lambda epoch: _records(schema, folder).shuffle(
            buffer, seed=seed + epoch, reshuffle_each_iteration=False
        )
    )
    return _batches(schema, shuffled, seed, batch_size)


def evaluation_batches(schema: Schema, folder: tf.Tensor, batch_size: int = 512) -> tf.data.Dataset:
    """Batches of the examples under `folder` in file order."""
    return _batches(schema, _records(schema, folder), tf.constant(0, tf.int64), batch_size)


def targets(schema: Schema, encode: Encode, x: tf.Tensor, stored: tf.Tensor) -> tf.Tensor:
    """What a model is to give for examples x [b, *schema.shape] with `stored` labels; see fededge.encoding.targets."""
    size = tf.shape(x)[0]
    if schema.label.kind == "none":
        return tf.reshape(encode(x), [size, schema.outputs])
    y = tf.reshape(stored, [size, *_target_shape(schema)])
    if schema.label.mean:
        y = (y - np.array(schema.label.mean, np.float32)) / np.array(schema.label.std, np.float32)
    return y


def _record_bytes(schema: Schema) -> int:
    return math.prod(schema.shape) * np.dtype(schema.dtype).itemsize


def _records(schema: Schema, folder: tf.Tensor) -> tf.data.Dataset:
    x = tf.data.FixedLengthRecordDataset(folder + "/x.npy", _record_bytes(schema), header_bytes=HEADER)
    label = schema.label
    if label.kind == "none":
        return x.map(lambda record: (record, tf.constant("")))
    width = math.prod(label.stored_shape) * np.dtype(label.dtype).itemsize
    return tf.data.Dataset.zip(
        (x, tf.data.FixedLengthRecordDataset(folder + "/y.npy", width, header_bytes=HEADER))
    )


def _target_dtype(schema: Schema) -> tf.DType:
    return tf.as_dtype(schema.label.dtype)


def _target_shape(schema: Schema) -> tuple[int, ...]:
    label = schema.label
    if label.kind in ("class", "sequence"):
        return label.stored_shape
    return (schema.outputs,)


def _batches(schema: Schema, records: tf.data.Dataset, seed: tf.Tensor, batch_size: int) -> tf.data.Dataset:
    encode, label = Encode(schema), schema.label

    def decode(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, object]:
        size = tf.size(batch[0])
        x = tf.io.decode_raw(batch[0], tf.as_dtype(schema.dtype))
        x = tf.reshape(tf.cast(x, tf.float32), [size, *schema.shape])
        if schema.dtype == "uint8":
            x = x / 255.0
        stored = batch[1] if label.kind == "none" else tf.io.decode_raw(batch[1], _target_dtype(schema))
        y = targets(schema, encode, x, stored)
        return collections.OrderedDict(
            x=collections.OrderedDict(
                examples=x, seed=tf.tile(tf.stack([seed, step])[tf.newaxis], [size, 1])
            ),
            y=y,
        )

    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    return records.batch(batch_size).enumerate().map(decode).with_options(options)
