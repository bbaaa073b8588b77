"""A random part of a client's training examples, for a round in which it cannot learn from all of them in time."""

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Schema


@contextlib.contextmanager
def subset(data: Path, schema: Schema, share: float, seed: int) -> Iterator[Path]:
    """A private client folder whose train/ has a random `share` of that in `data`, one example at least.

    Args:
        data: the client's own folder.
        schema: of its examples.
        share: above 0 and below 1.
        seed: of the choice; another than training's, though made of the same number.

    Raises:
        DataError: the examples are malformed.
        StorageError: the folder cannot be written.
    """
    x, y = examples.read(data / "train", schema)
    chosen = np.random.default_rng([seed, 0, 1]).permutation(len(x))[: max(1, math.ceil(share * len(x)))]
    places = np.stack([np.zeros_like(chosen), np.sort(chosen)], axis=1)
    with tempfile.TemporaryDirectory(prefix="fededge-share-") as folder:
        examples.copy(Path(folder) / "train", [(x, y)], places, schema)
        yield Path(folder)
