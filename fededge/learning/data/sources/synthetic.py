"""Random images with learnable labels, for benchmarks."""

import numpy as np

from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.task import SyntheticData

SHAPE = (28, 28, 1)
CLASSES = 10


def open_source(data: SyntheticData, seed: int, column: str | None) -> Source:
    """Images in [0, 1], float32 [n, 28, 28, 1]: half noise, half the prototype of their class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, data.examples)
    prototypes = rng.random((CLASSES, *SHAPE), dtype=np.float32)
    x = rng.random((data.examples, *SHAPE), dtype=np.float32) * np.float32(0.5)
    x += prototypes[y] * np.float32(0.5)
    return from_arrays("synthetic", lambda: iter([Raw(x, y.astype(np.int64))]), data)
