"""A Python function of the user's own, that gives arrays or an iterator of batches."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fededge.errors import DataError, FedEdgeError, shown
from fededge.learning import factories
from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.task import FunctionData

MOST = 4
"""x, y, owners and times."""


def open_source(data: FunctionData, seed: int, column: str | None) -> Source:
    """What the function gives: (x, y), with owners and times after them where it knows; or an iterator of such.

    It is called for each pass, with the task's arguments, and must give the same each time. y may be None.

    Raises:
        TaskError: there is no such function.
        DataError: it raises, or gives something else.
    """
    function = factories.load(data.function, "data.function", data.code)

    def passes() -> Iterator[Raw]:
        try:
            given = function(**data.arguments)
            for part in [given] if isinstance(given, tuple | list) else iter(given):
                yield _raw(part, data.function)
        except FedEdgeError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise DataError(
                f"data.function {data.function} failed: {shown(f'{type(error).__name__}: {error}', 300)}"
            ) from error

    return from_arrays(data.function, passes, data, tokens=data.tokens)


def _raw(part: Any, function: str) -> Raw:
    if not isinstance(part, tuple | list) or not 2 <= len(part) <= MOST:
        raise DataError(
            f"data.function {function} gave {shown(type(part).__name__)} where (x, y), or (x, y, owners, times), is "
            "expected: return arrays, or yield them in batches"
        )
    arrays = [None if each is None else np.asarray(each) for each in part]
    if arrays[0] is None:
        raise DataError(f"data.function {function} gave no x: return (x, y)")
    return Raw(*arrays)  # type: ignore[arg-type]
