"""A random part of a client's examples, for work in which it cannot use all of them."""

import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Schema


def wanted(count: int, share: float, most: int | None) -> int:
    """Of `count` examples, how many to use: a `share`, at most `most`, and one at least."""
    return max(1, min(math.ceil(share * count), count if most is None else most))


@contextlib.contextmanager
def subset(data: Path, part: str, schema: Schema, count: int, seed: int) -> Iterator[Path]:
    """A private client folder whose `part` has `count` of the examples in that of `data`, drawn at random; the other part
    is the client's own.

    Args:
        data: the client's own folder; `part`: train or test.
        schema: of its examples.
        count: fewer than there are.
        seed: of the choice; another than training's, though made of the same number.

    Raises:
        DataError: the examples are malformed.
        StorageError: the folder cannot be written.
    """
    x, y = examples.read(data / part, schema)
    chosen = np.random.default_rng([seed, 0, 1]).permutation(len(x))[:count]
    places = np.stack([np.zeros_like(chosen), np.sort(chosen)], axis=1)
    with tempfile.TemporaryDirectory(prefix="fededge-share-") as folder:
        other = "train" if part == "test" else "test"
        if (data / other).exists():
            (Path(folder) / other).symlink_to((data / other).resolve())
        examples.copy(Path(folder) / part, [(x, y)], places, schema)
        yield Path(folder)
