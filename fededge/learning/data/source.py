"""What a source of examples is to the rest of the house: a schema, and batches that stream as often as asked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fededge.documents import Schema

ROWS = 8192
"""Rows that are looked at together, where rows are small."""


@dataclass(frozen=True)
class Batch:
    """Some examples, in the order of the source.

    x: [n, *schema.shape] in schema.dtype; NaN only where the clients' mean will stand. y: as schema.label stores it.
    owners: names, str [n]; times: float64 [n]; each None where the task asks for none. held: whether all of them
    belong to the test set that the source has of its own.
    """

    x: np.ndarray
    y: np.ndarray
    owners: np.ndarray | None = None
    times: np.ndarray | None = None
    held: bool = False


@dataclass(frozen=True)
class Source:
    """Examples that stream; two passes give the same.

    Attributes:
        name: of it in messages, such as its path.
        schema: of an example, without statistics.
        batches: begins a pass over all examples.
        filled: places in a flat example where a missing number is NaN, until the clients' mean is known.
    """

    name: str
    schema: Schema
    batches: Callable[[], Iterator[Batch]]
    filled: tuple[int, ...] = ()
