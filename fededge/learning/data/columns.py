"""The columns of a table as they stand in its files: which are features, and which are better left out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fededge.learning.data.labels import word_of
from fededge.learning.data.table_files import TableFile, numbers
from fededge.learning.data.table_schema import LONGEST, MOST_WORDS, is_name, is_words
from fededge.task import Table

NAMES_OF_LABELS = ("label", "target", "class", "y", "outcome")
NAMES_OF_OWNERS = (
    "owner",
    "user",
    "client",
    "site",
    "device",
    "patient",
    "hospital",
    "customer",
    "room",
    "sensor",
)
IDENTIFIES = 0.95
"""Share of rows with a word of their own from which a column of words names rows."""
MOST_CODES = 31
"""Different whole numbers up to which they may be codes, such as days of a month."""
FEWEST_OF_CODE = 50
"""Rows that hold the rarest of them."""
NARROW = 0.3
"""Half of the numbers lie within this many deviations where they are of many magnitudes; of a bell curve 1.35."""
SMALL = 0.05
"""Quantile of their sizes that is the unit of their logarithm."""
KEPT = 20_000
FEWEST = 50
"""Rows from which on that is told."""


@dataclass
class Found:
    """What is in one column.

    words: of each word, rows that hold it, up to MOST_WORDS + 1 words; counting: whether its numbers are those of the
    rows, one after the other.
    """

    type_: Any
    rows: int = 0
    missing: int = 0
    words: dict[Any, int] = field(default_factory=dict)
    unusable: bool = False
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    counting: bool = True
    last: float | None = None
    kept: list[np.ndarray] = field(default_factory=list)
    rate: float = 1.0

    @property
    def is_words(self) -> bool:
        """Whether it holds words."""
        return is_words(self.type_)

    @property
    def codes(self) -> list[str]:
        """Names of its numbers, where they are few whole ones, each of them often: they tell apart, and do not count."""
        few = self.whole and not self.is_words and 2 < len(self.words) <= MOST_CODES
        often = few and min(self.words.values()) >= FEWEST_OF_CODE
        return [word_of(value) for value in sorted(self.words)] if often else []

    @property
    def unit_of_logarithm(self) -> float | None:
        """A small one of its numbers, where they are of many magnitudes; else None."""
        if self.is_words or not self.kept or (len(self.words) <= MOST_CODES and self.whole):
            return None
        values = np.concatenate(self.kept)
        low, high = np.quantile(values, [0.25, 0.75])
        sizes = np.abs(values[values != 0])
        if not len(sizes) or high - low >= NARROW * values.std():
            return None
        return float(f"{np.quantile(sizes, SMALL):.3g}")

    def left_out(self, name: str) -> str:
        """Why it is no feature under its name; "" where it is one."""
        if not is_name(name):
            return "has no name that can be used"
        if self.unusable:
            return f"holds {self.type_}, neither numbers nor words"
        if self.missing == self.rows:
            return "is empty"
        if self.is_words:
            if len(self.words) > MOST_WORDS:
                return f"has more than {MOST_WORDS:,} different words"
            if any(len(word) > LONGEST for word in self.words):
                return f"holds text of more than {LONGEST:,} letters"
            if self.rows >= FEWEST and len(self.words) > IDENTIFIES * self.rows:
                return "has a word of its own in nearly every row"
            return "is the same in every row" if len(self.words) == 1 and not self.missing else ""
        if self.low == self.high and not self.missing:
            return "is the same in every row"
        return "counts the rows" if self.counting and self.rows >= FEWEST and not self.missing else ""


def look_at(files: list[TableFile]) -> dict[str, Found]:
    """What is in each column, in one pass over the files."""
    found = {name: Found(type_) for name, type_ in files[0].types.items()}
    for file in files:
        usable = [name for name in found if _usable(found[name])]
        for rows in file.rows(usable):
            for name in usable:
                _add(found[name], rows.column(name))
    rows_in_all = max((each.rows for each in found.values()), default=0)
    for each in found.values():
        each.rows = rows_in_all
    return found


def guessed_label(found: dict[str, Found]) -> str:
    """The column that is probably to be predicted: by its name, else the last."""
    named = [name for name in found if name.lower() in NAMES_OF_LABELS]
    return named[0] if named else list(found)[-1]


def guessed_owner(found: dict[str, Found], data: Table) -> str | None:
    """A column that by its name, and by having several rows for each of at least three owners, names owners."""
    for name, each in found.items():
        if name in data.labels or name == data.time:
            continue
        few = 3 <= len(each.words) <= min(MOST_WORDS, each.rows // 20)
        words = name.lower().replace("-", "_").split("_")
        if few and not each.missing and any(word in NAMES_OF_OWNERS for word in words):
            return name
    return None


def _usable(found: Found) -> bool:
    import pyarrow as pa

    kind = found.type_
    found.unusable = not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or is_words(kind))
    return not found.unusable


def _add(found: Found, column: Any) -> None:
    found.rows += len(column)
    if found.is_words:
        found.missing += column.null_count
        _count(found, _values(column))
        return
    values = numbers(column)
    there = values[~np.isnan(values)]
    found.missing += len(values) - len(there)
    if not len(there):
        return
    _keep(found, there)
    found.low, found.high = min(found.low, float(there.min())), max(found.high, float(there.max()))
    with np.errstate(invalid="ignore"):
        found.whole = found.whole and bool((there == np.floor(there)).all())
        steps = np.diff(there if found.last is None else np.concatenate([[found.last], there]))
    found.counting = found.counting and bool((steps == 1).all())
    found.last = float(there[-1])
    if found.whole and len(found.words) <= MOST_WORDS:
        unique, counts = np.unique(there, return_counts=True)
        _count(found, zip(unique.tolist(), counts.tolist(), strict=True))


def _keep(found: Found, values: np.ndarray) -> None:
    """Keep a random part of the numbers, at most 2 KEPT."""
    rng = np.random.default_rng(found.rows)
    found.kept.append(values[rng.random(len(values)) < found.rate])
    if sum(map(len, found.kept)) > 2 * KEPT:
        joined = np.concatenate(found.kept)
        found.kept = [joined[rng.random(len(joined)) < 0.5]]
        found.rate /= 2


def _values(column: Any) -> Iterator[tuple[Any, int]]:
    import pyarrow.compute as pc

    for each in pc.value_counts(column).to_pylist():
        yield each["values"], each["counts"]


def _count(found: Found, values: Any) -> None:
    for value, count in values:
        if value is not None and (value in found.words or len(found.words) <= MOST_WORDS):
            found.words[value] = found.words.get(value, 0) + count
