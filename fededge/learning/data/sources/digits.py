"""scikit-learn's handwritten digits, scaled from 8x8 to 28x28x1."""

import numpy as np

from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.task import DigitsData


def open_source(data: DigitsData, seed: int, column: str | None) -> Source:
    """1,797 images, float32 in [0, 1]."""
    from sklearn.datasets import load_digits

    small, y = load_digits(return_X_y=True)
    x = _enlarge(small.reshape(-1, 8, 8) / 16.0)
    return from_arrays("digits", lambda: iter([Raw(x, y.astype(np.int64))]), data)


def _enlarge(small: np.ndarray) -> np.ndarray:
    """Bilinear resize of [n, 8, 8] to float32 [n, 28, 28, 1], pixel centers aligned."""
    position = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, 7)
    share = position - low
    weight = np.zeros((28, 8))
    weight[np.arange(28), low] += 1 - share
    weight[np.arange(28), high] += share
    large = np.einsum("ai,nij,bj->nab", weight, small, weight, optimize=True)
    return np.clip(large, 0, 1).astype(np.float32)[..., np.newaxis]
