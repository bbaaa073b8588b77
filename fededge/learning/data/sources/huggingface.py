"""Data sets of Hugging Face, where the package `datasets` is installed."""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from fededge.errors import DataError, shown
from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.learning.data.sources.pictures import decoded
from fededge.task import HuggingFaceData

ROWS = 256


def open_source(data: HuggingFaceData, seed: int, column: str | None) -> Source:
    """The splits `train` and, where there is one, `test`.

    Raises:
        DataError: `datasets` is not installed, or the set cannot be loaded.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            "data.source huggingface needs the package datasets: install it (`pip install datasets`), or save the data "
            "as Parquet and use data.source parquet"
        ) from error
    try:
        loaded = datasets.load_dataset(data.name, data.configuration, revision=data.revision)
    except Exception as error:
        raise DataError(
            f"data set {data.name} cannot be loaded: {shown(str(error), 300)}. Check its name and the network"
        ) from error
    parts = {name: loaded[name] for name in ("train", "test") if name in loaded}
    if "train" not in parts:
        raise DataError(f"data set {data.name} has no split train, but {shown(', '.join(loaded), 200)}")
    wanted = {data.feature, *filter(None, [data.label, data.owner])}
    missing = wanted - set(parts["train"].column_names)
    if missing:
        raise DataError(
            f"data set {data.name} has no column {shown(', '.join(sorted(missing)))}; it has "
            f"{shown(', '.join(parts['train'].column_names), 200)}"
        )
    names = getattr(parts["train"].features.get(data.label), "names", None) if data.label else None
    named = data.model_copy(update={"classes": data.classes or list(names or [])})

    def passes() -> Iterator[Raw]:
        for part, rows in parts.items():
            for batch in rows.iter(batch_size=ROWS):
                y = None if data.label is None else np.asarray(batch[data.label])
                owners = None if data.owner is None or part == "test" else np.asarray(batch[data.owner])
                yield Raw(_examples(batch[data.feature], data), y, owners, held=part == "test")

    return from_arrays(data.name, passes, named)


def _examples(values: list[Any], data: HuggingFaceData) -> np.ndarray:
    if values and hasattr(values[0], "convert"):
        return np.stack([decoded(value, data.size, data.channels, data.name) for value in values])
    return np.asarray(values)
