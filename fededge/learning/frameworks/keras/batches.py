"""A client's examples as a tf.data pipeline over its own files: streamed, seeded, one thread.

A batch is {"x": {"image": float32 [b, 28, 28, 1], "seed": int64 [b, 2]}, "y": int64 [b]}. The seed is
(the client's seed of this round, the step), from which dropout draws; the same seed shuffles.
"""

import collections

import numpy as np
import tensorflow as tf

from fededge.examples import HEADER
from fededge.learning.data.sources import SHAPE

SHUFFLE_BUFFER = 10_000

SPEC = collections.OrderedDict(
    x=collections.OrderedDict(
        image=tf.TensorSpec([None, *SHAPE], tf.float32), seed=tf.TensorSpec([None, 2], tf.int64)
    ),
    y=tf.TensorSpec([None], tf.int64),
)


def training_batches(folder: tf.Tensor, seed: tf.Tensor, batch_size: int, epochs: int) -> tf.data.Dataset:
    """Shuffled batches of the examples under `folder` (string scalar) for `epochs` passes.

    A batch may span two epochs; only the last one may be smaller than `batch_size`.
    """
    shuffled = tf.data.Dataset.range(epochs).flat_map(
        lambda epoch: _records(folder).shuffle(
            SHUFFLE_BUFFER, seed=seed + epoch, reshuffle_each_iteration=False
        )
    )
    return _batches(shuffled, seed, batch_size)


def evaluation_batches(folder: tf.Tensor, batch_size: int = 512) -> tf.data.Dataset:
    """Batches of the examples under `folder` in file order."""
    return _batches(_records(folder), tf.constant(0, tf.int64), batch_size)


def _records(folder: tf.Tensor) -> tf.data.Dataset:
    width = int(np.prod(SHAPE)) * 4
    x = tf.data.FixedLengthRecordDataset(folder + "/x.npy", width, header_bytes=HEADER)
    y = tf.data.FixedLengthRecordDataset(folder + "/y.npy", 8, header_bytes=HEADER)
    return tf.data.Dataset.zip((x, y))


def _batches(records: tf.data.Dataset, seed: tf.Tensor, batch_size: int) -> tf.data.Dataset:
    def decode(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, object]:
        x, y = batch
        size = tf.size(x)
        return collections.OrderedDict(
            x=collections.OrderedDict(
                image=tf.reshape(tf.io.decode_raw(x, tf.float32), [size, *SHAPE]),
                seed=tf.tile(tf.stack([seed, step])[tf.newaxis], [size, 1]),
            ),
            y=tf.reshape(tf.io.decode_raw(y, tf.int64), [size]),
        )

    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    options.threading.max_intra_op_parallelism = 1
    return records.batch(batch_size).enumerate().map(decode).with_options(options)
