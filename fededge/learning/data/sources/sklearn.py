"""The data sets that come with scikit-learn."""

import importlib

import numpy as np

from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.task import SklearnData


def open_source(data: SklearnData, seed: int, column: str | None) -> Source:
    """Rows of numbers with their names; digits are images of 8x8x1."""
    load = getattr(importlib.import_module("sklearn.datasets"), f"load_{data.name}")
    found = load()
    x, y = found.data, found.target
    names = list(getattr(found, "feature_names", []))
    if data.name == "digits":
        x, names = (found.images[..., np.newaxis] / 16).astype(np.float32), []
    classes = [str(name) for name in getattr(found, "target_names", [])]
    named = data.model_copy(update={"classes": data.classes or classes})
    y = y.astype(np.int64 if classes else np.float64)
    return from_arrays(data.name, lambda: iter([Raw(x, y)]), named, names=names)
