"""Requests that name features, and answers that name classes: see fededge.named."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fededge import named
from fededge.errors import RequestError

if TYPE_CHECKING:
    from fededge.documents import Schema


def from_json_data(content: Any, schema: "Schema | None") -> np.ndarray:
    """float32 [n, *shape] of jsonData: an object of features by name, or a list of them.

    Raises:
        RequestError: anything else, or the model does not tell its features.
    """
    records = [content] if isinstance(content, Mapping) else content
    if not isinstance(records, list) or not all(isinstance(record, Mapping) for record in records):
        raise RequestError("jsonData is no object of features by name, nor a list of them", "WRONG_TYPE")
    if schema is None:
        raise RequestError(
            "the model does not tell the names of its features: send data.ndarray", "UNKNOWN_PAYLOAD"
        )
    return named.examples(records, schema)


def are_features(names: Any, schema: "Schema | None") -> bool:
    """Whether `names` beside an ndarray name columns by features; other names, such as t:0, say nothing."""
    if schema is None or not isinstance(names, list):
        return False
    known = {feature.name for feature in schema.features if not feature.shape}
    return any(isinstance(name, str) and name in known for name in names)


def from_rows(names: Sequence[str], rows: Any, schema: "Schema") -> np.ndarray:
    """float32 [n, *shape] of `rows`, lists with a value for each of `names`.

    Raises:
        RequestError: rows of another length, or values that are no feature's.
    """
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == len(names) for row in rows
    ):
        raise RequestError(
            f"data.ndarray beside names must be rows of {len(names)} values, one for each name", "WRONG_SHAPE"
        )
    return named.examples([dict(zip(names, row, strict=True)) for row in rows], schema)
