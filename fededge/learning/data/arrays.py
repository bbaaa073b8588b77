"""Arrays as a source of examples: what they are, read from their shapes and values."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fededge.documents import Feature, Schema
from fededge.errors import DataError
from fededge.learning.data.labels import LabelRule, LabelSummary, label_rule
from fededge.learning.data.source import Batch, Source
from fededge.task.data import Described

MOST_COLUMNS = 1000
"""Numbers of a flat example up to which each is a feature of its own, with a mean and deviation of its own."""


@dataclass(frozen=True)
class Raw:
    """Some examples as arrays of a source: x [n, ...], y [n, ...], owners [n], times [n]."""

    x: np.ndarray
    y: np.ndarray | None
    owners: np.ndarray | None = None
    times: np.ndarray | None = None
    held: bool = False


def from_arrays(
    name: str,
    passes: Callable[[], Iterator[Raw]],
    data: Described,
    *,
    names: Sequence[str] = (),
    tokens: bool = False,
    label: str = "",
) -> Source:
    """A source over arrays, which `passes` gives in pieces, from the first to the last as often as it is called.

    Args:
        name: of the source, in messages.
        passes: begins a pass.
        data: what the task says of it.
        names: of the numbers of a flat example.
        tokens: whether whole numbers in x are numbers of tokens.
        label: name of what is predicted.

    Raises:
        DataError: the arrays are no numbers, change shape or type, or hold labels that cannot be.
    """
    first: np.ndarray | None = None
    summary: LabelSummary | None = None
    for raw in passes():
        first = raw.x[:0] if first is None else first
        if raw.x.shape[1:] != first.shape[1:] or raw.x.dtype != first.dtype:
            raise DataError(
                f"{name}: examples change from {first.dtype} {list(first.shape[1:])} to {raw.x.dtype} "
                f"{list(raw.x.shape[1:])}: give all of one type and shape"
            )
        if raw.y is not None:
            if len(raw.y) != len(raw.x):
                raise DataError(
                    f"{name}: labels have shape {raw.y.shape} for {len(raw.x)} examples: give one label each"
                )
            summary = summary or LabelSummary()
            summary.add(raw.y, name)
    if first is None:
        raise DataError(f"{name}: there are no examples: give at least one")
    rule = label_rule(summary, data, name)
    schema = Schema(
        features=_features(first, names, tokens or rule.label.kind == "sequence", name),
        label=rule.label.model_copy(update={"name": label}),
    )
    return Source(name, schema, lambda: _batches(passes, schema, rule))


def _features(first: np.ndarray, names: Sequence[str], tokens: bool, source: str) -> list[Feature]:
    if first.dtype.kind not in "biuf" or first.ndim < 2 or 0 in first.shape[1:]:
        raise DataError(
            f"{source}: examples are {first.dtype} of shape {list(first.shape[1:])}; give numbers [n, ...], at least one "
            "each"
        )
    shape = list(first.shape[1:])
    if first.dtype == np.uint8 and len(shape) in (2, 3):
        return [Feature(name="image", dtype="uint8", shape=shape if len(shape) == 3 else [*shape, 1])]
    dtype: Literal["bool", "int64", "float32"] = (
        "bool" if first.dtype.kind == "b" else "int64" if first.dtype.kind in "iu" and tokens else "float32"
    )
    if len(shape) == 1 and dtype != "int64" and shape[0] <= MOST_COLUMNS:
        titles = names if len(names) == shape[0] else [f"x{number}" for number in range(shape[0])]
        return [Feature(name=title, dtype=dtype, shape=[]) for title in titles]
    return [Feature(name="image" if len(shape) == 3 else "x", dtype=dtype, shape=shape)]


def _batches(passes: Callable[[], Iterator[Raw]], schema: Schema, rule: LabelRule) -> Iterator[Batch]:
    for raw in passes():
        with np.errstate(over="ignore", invalid="ignore"):
            x = raw.x.reshape(len(raw.x), *schema.shape).astype(schema.dtype, copy=False)
        owners = None if raw.owners is None else raw.owners.astype(str)
        times = None if raw.times is None else raw.times.astype(np.float64)
        yield Batch(x, rule.encode(raw.y, len(x)), owners, times, raw.held)
