"""A client's examples as a model sees them, in blocks read from its files: shuffled by a seed, or in file order.

What is held in memory is a block of about `examples.BLOCK` bytes, and 8 bytes an example for the order.
"""

from collections.abc import Iterator

import numpy as np

from fededge.documents import Schema
from fededge.encoding import encode, targets
from fededge.examples import BLOCK, floats

Block = tuple[np.ndarray, np.ndarray]
"""Encoded examples float32 [b, *schema.encoded_shape] and their targets (`fededge.encoding.targets`)."""


def training_blocks(
    schema: Schema, x: np.ndarray, y: np.ndarray, seed: int, batch_size: int, epochs: int
) -> Iterator[Block]:
    """`epochs` passes over stored examples x [n, ...] with labels y, shuffled by `seed`.

    A block is a whole number of batches, of which one may span two epochs; only the last batch of all may be smaller.
    """
    size = max(1, _examples(schema) // batch_size) * batch_size
    waiting = np.empty(0, np.int64)
    for epoch in range(epochs):
        waiting = np.concatenate([waiting, np.random.default_rng([seed, epoch]).permutation(len(x))])
        whole = len(waiting) - (len(waiting) % batch_size if epoch < epochs - 1 else 0)
        for start in range(0, whole, size):
            places = waiting[start : min(start + size, whole)]
            yield _block(schema, x[places], y[places])
        waiting = waiting[whole:]


def blocks(schema: Schema, x: np.ndarray, y: np.ndarray) -> Iterator[Block]:
    """Stored examples x [n, ...] with labels y in their order."""
    size = _examples(schema)
    for start in range(0, len(x), size):
        yield _block(schema, x[start : start + size], y[start : start + size])


def _examples(schema: Schema) -> int:
    """How many examples are held in memory together."""
    return max(1, BLOCK // (4 * int(np.prod(schema.encoded_shape))))


def _block(schema: Schema, x: np.ndarray, y: np.ndarray) -> Block:
    x = floats(np.asarray(x))
    return encode(schema, x), targets(schema, x, np.asarray(y))
