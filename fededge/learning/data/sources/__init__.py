"""The sources that a task can name, a module each, which is imported when a task names it.

A module has `open_source(data, seed, column)`, which gives a Source: `column` is that of partition.kind column.
"""

import importlib

from fededge.learning.data.source import Source
from fededge.task import LocalData

MODULES = {
    "csv": "delimited",
    "digits": "digits",
    "folders": "client_folders",
    "function": "function",
    "huggingface": "huggingface",
    "images": "images",
    "keras": "keras",
    "keras-mnist": "keras",
    "npy": "npy",
    "npz": "npz",
    "parquet": "parquet",
    "sklearn": "sklearn",
    "synthetic": "synthetic",
}
"""Module of each `data.source`."""


def open_source(data: LocalData, seed: int, column: str | None = None) -> Source:
    """The examples that a task's section `data` names.

    Args:
        data: the section.
        seed: of the task, for what is generated.
        column: of a table, that names each example's client.

    Raises:
        DataError: missing, malformed, or not what the task says.
        StorageError: they cannot be read.
    """
    module = importlib.import_module(f"{__name__}.{MODULES[data.source]}")
    source: Source = module.open_source(data, seed, column)
    return source
