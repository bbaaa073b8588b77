"""The data sets that Keras downloads, each with its own test set."""

import importlib
from collections.abc import Iterator

import numpy as np

from fededge.errors import DataError
from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.task import KerasData, KerasMnist


def open_source(data: KerasData | KerasMnist, seed: int, column: str | None) -> Source:
    """Images as uint8 levels; houses as rows of numbers.

    Raises:
        DataError: Keras cannot download them.
    """
    name = data.name if isinstance(data, KerasData) else "mnist"
    datasets = importlib.import_module("tensorflow").keras.datasets
    try:
        train, test = getattr(datasets, name).load_data()
    except Exception as error:
        raise DataError(
            f"Keras cannot download {name}: {error}. Use data.source npz with a file you have"
        ) from error

    def passes() -> Iterator[Raw]:
        for (x, y), held in ((train, False), (test, True)):
            yield Raw(x, np.asarray(y).reshape(len(x)), held=held)

    return from_arrays(data.source, passes, data)
