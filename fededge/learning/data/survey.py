"""One pass over a source: every value is checked, and little is kept of each example but its label.

A class is a byte or a few here, and a number 4 while it is looked at, so that the files may be larger than memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fededge.documents import Label
from fededge.errors import DataError
from fededge.learning.data.source import Batch, Source

QUANTILES = 10
"""Groups of equal size that numbers are spread by, as if they were classes."""


@dataclass(frozen=True)
class Survey:
    """What a partition and a split need to know of the examples.

    groups: unsigned integers [n], the class of each example, or the tenth that its number lies in. owners: int32 [n],
    places in `names`. times: float64 [n]. held: bool [n], of the test set that the source has of its own. Each of the
    last three is None where the source does not say.
    """

    groups: np.ndarray
    owners: np.ndarray | None
    names: list[str]
    times: np.ndarray | None
    held: np.ndarray | None

    @property
    def count(self) -> int:
        """Examples in all."""
        return len(self.groups)


def survey(source: Source) -> Survey:
    """Look at all examples of `source` once.

    Raises:
        DataError: a value is not finite, a class has no example, an owner or a time is missing, or there is nothing.
    """
    groups, owners, times, held = [], [], [], []
    places: dict[str, int] = {}
    for batch in checked(source):
        groups.append(_groups(batch.y, source.schema.label))
        held.append(np.full(len(batch.x), batch.held))
        if batch.owners is not None:
            owners.append(_places(batch.owners, places))
        if batch.times is not None:
            times.append(batch.times)
    joined = np.concatenate(groups) if groups else np.zeros(0, np.uint8)
    groups.clear()
    own_test = np.concatenate(held) if held else np.zeros(0, bool)
    rest = len(joined) - np.count_nonzero(own_test)
    if not len(joined) or (own_test.any() and not rest):
        raise DataError(
            f"{source.name}: {rest} training and {len(joined) - rest} test examples; both are needed"
        )
    if source.schema.label.kind == "number":
        joined = _tenths(joined)
    return Survey(
        joined,
        _whole(owners, joined, own_test, "owner", source),
        list(places),
        _whole(times, joined, own_test, "time", source),
        own_test if own_test.any() else None,
    )


def checked(source: Source) -> Iterator[Batch]:
    """A pass over `source` in which each value is seen to be finite, and each class to have an example.

    Raises:
        DataError: one is not, or has none.
    """
    label = source.schema.label
    counts = np.zeros(label.classes, np.int64)
    filled = np.array(source.filled, np.int64)
    for batch in source.batches():
        if batch.x.dtype == np.float32 and not np.isfinite(batch.x).all():
            _finite(batch.x.reshape(len(batch.x), -1), filled, source)
        if batch.y.dtype == np.float32 and not np.isfinite(batch.y).all():
            raise DataError(
                f"{source.name}: labels have NaN or infinite values: correct or remove those examples"
            )
        if batch.times is not None and not np.isfinite(batch.times).all():
            raise DataError(f"{source.name}: an example has no time: remove it, or give one to each")
        if label.classes:
            counts += class_counts(batch.y, label)
        yield batch
    empty = np.flatnonzero(counts == 0)
    if len(empty) and label.kind != "sequence":
        name = label.names[empty[0]] if label.names else empty[0]
        raise DataError(
            f"{source.name}: class {name} has no example anywhere: remove it from data.classes, number the classes "
            "from 0 without gaps, or add examples"
        )


def class_counts(y: np.ndarray, label: Label) -> np.ndarray:
    """How often each class is among stored labels `y`: int64 [classes]."""
    if label.kind == "multi-label":
        return y.sum(axis=0).astype(np.int64)
    return np.bincount(y.reshape(-1), minlength=label.classes)


def _finite(x: np.ndarray, filled: np.ndarray, source: Source) -> None:
    bad = ~np.isfinite(x)
    bad[:, filled] &= ~np.isnan(x[:, filled])
    if not bad.any():
        return
    place = int(np.flatnonzero(bad.any(axis=0))[0])
    name = source.schema.features[0].name
    for feature in source.schema.features:
        name, place = feature.name, place - feature.size
        if place < 0:
            break
    raise DataError(
        f"{source.name}: {int(bad.sum()):,} values are NaN or infinite, the first in {name}: clean the data and run "
        "again"
    )


def _groups(y: np.ndarray, label: Label) -> np.ndarray:
    smallest = np.min_scalar_type(label.classes)
    if label.kind == "class":
        return y.astype(smallest)
    if label.kind == "number":
        return y.reshape(len(y), -1)[:, 0]
    if label.kind == "multi-label":
        return np.where(y.any(axis=1), y.argmax(axis=1) + 1, 0).astype(smallest)
    if label.kind == "sequence":
        return np.array([np.bincount(row).argmax() for row in y], smallest)
    return np.zeros(len(y), np.uint8)


def _tenths(values: np.ndarray) -> np.ndarray:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, QUANTILES + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.uint8)


def _places(names: np.ndarray, places: dict[str, int]) -> np.ndarray:
    found, inverse = np.unique(names, return_inverse=True)
    known = [places.setdefault(str(name), len(places)) for name in found]
    return np.array(known, np.int32)[inverse.reshape(-1)]


def _whole(
    pieces: list[np.ndarray], groups: np.ndarray, held: np.ndarray, what: str, source: Source
) -> np.ndarray | None:
    """Owners or times of all examples; the source's own test set may have none."""
    if not pieces:
        return None
    joined = np.concatenate(pieces)
    if len(joined) == len(groups):
        return joined
    if len(joined) != np.count_nonzero(~held):
        raise DataError(f"{source.name}: the key array must name one {what} per training example")
    full = np.full(len(groups), -1, joined.dtype)
    full[~held] = joined
    return full
