"""What the columns of a table are: read from the data by rules, or as the task says."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fededge.documents import Feature
from fededge.errors import DataError, shown
from fededge.learning.data.labels import word_of
from fededge.learning.data.table_files import TableFile, numbers
from fededge.task import Column, Table

LONGEST = 1000
"""Letters of the longest word that is a category, as a task may name it."""
LONGEST_NAME = 200
MOST_WORDS = 1000
"""Different words up to which a column of words is a feature."""
NOTHING = "missing"
"""The word that stands where a column of words has none."""
SECONDS_A_DAY = 86_400


@dataclass
class Seen:
    """What a pass over a table has found in one column."""

    missing: int = 0
    words: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """How one column is held: `feature`; where it has words, the place of each; `filled` by the clients' mean."""

    feature: Feature
    places: dict[str, int]
    filled: bool = False


def is_name(name: str) -> bool:
    """Whether a column's header can be the name of a feature."""
    return 1 <= len(name) <= LONGEST_NAME and name.isprintable()


def is_words(type_: Any) -> bool:
    """Whether a column of this Arrow type holds words."""
    import pyarrow as pa

    inner = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)


def columns_of(files: list[TableFile], data: Table, also: str | None) -> dict[str, Any]:
    """Arrow type of each feature column, of the first file; the same in all.

    Args:
        files: of the table.
        data: what the task says.
        also: a column that is no feature unless the task says so.

    Raises:
        DataError: a column is missing, has another type in another file, or has one that is no feature.
    """
    import pyarrow as pa

    first = files[0]
    aside = {*data.labels, *filter(None, [data.owner, data.time, also])}
    names = [column.name for column in data.features] or [name for name in first.types if name not in aside]
    for file in files:
        for name in [*names, *aside]:
            if name not in file.types:
                raise DataError(
                    f"{file.name} has no column {shown(name)!r}; it has {shown(', '.join(file.types), 200)}: correct "
                    "the task or the file"
                )
            if is_words(file.types[name]) != is_words(first.types[name]) and name in names:
                raise DataError(
                    f"{file.name}: column {shown(name)!r} holds {file.types[name]} where {first.name} has "
                    f"{first.types[name]}: prepare it as they did, or say its kind in data.features"
                )
    nameless = next(
        (place for place, name in enumerate(first.types) if name in names and not is_name(name)), None
    )
    if nameless is not None:
        raise DataError(
            f"{first.name}: column {nameless + 1} has no name of 1 to {LONGEST_NAME} letters that print: give it one, or "
            "name the columns to learn from in data.features"
        )
    if not names:
        raise DataError(f"{first.name} has no column to learn from beside the label: add some")
    for name in names:
        kind = first.types[name]
        scalar = pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or is_words(kind)
        if not scalar:
            raise DataError(
                f"{first.name}: column {shown(name)!r} holds {shown(str(kind))}; give numbers or words, or leave it "
                "out of data.features"
            )
    return {name: first.types[name] for name in names}


def look(column: Any, seen: Seen, name: str, where: str) -> None:
    """Add what is in an Arrow array to what was seen.

    Raises:
        DataError: too many different words.
    """
    import pyarrow.compute as pc

    if is_words(column.type):
        seen.missing += column.null_count
        for word in pc.unique(column).to_pylist():
            if word is not None:
                seen.words[word] = None
        if any(len(word) > LONGEST for word in seen.words):
            raise DataError(
                f"{where}: column {shown(name)!r} holds text of more than {LONGEST:,} letters, no words: leave it out "
                "of data.features"
            )
        if len(seen.words) > MOST_WORDS:
            raise DataError(
                f"{where}: column {shown(name)!r} has more than {MOST_WORDS:,} different words: leave it out of "
                "data.features, or correct it if it holds numbers"
            )
    else:
        seen.missing += int(np.isnan(numbers(column)).sum())


def rule_of(name: str, type_: Any, seen: Seen | None, data: Table, where: str) -> Rule:
    """How the column `name` is held.

    Args:
        name: of the column.
        type_: its Arrow type.
        seen: what it holds; None where the task says all.
        data: what the task says.
        where: the table, in messages.

    Raises:
        DataError: values are missing and no rule says what stands there.
    """
    import pyarrow as pa

    said = next((column for column in data.features if column.name == name), Column(name=name))
    missing = seen.missing if seen else 0
    stand_in = said.missing
    if stand_in is None and missing:
        if data.missing == "refuse":
            raise DataError(
                f"{where}: column {shown(name)!r} is empty in {missing:,} rows: say data.missing: fill, or what stands "
                "there in data.features (missing)"
            )
        stand_in = NOTHING if is_words(type_) or said.categories else "mean"
    if is_words(type_) or said.categories:
        words = list(said.categories) or sorted(seen.words if seen else ())
        word = None if stand_in is None else str(stand_in)
        if word is not None and word not in words:
            words.append(word)
        places = {each: place for place, each in enumerate(words)}
        stands = None if word is None else float(places[word])
        return Rule(
            Feature(name=name, dtype="int64", shape=[], unit=said.unit, categories=words, missing=stands),
            places,
        )
    if isinstance(stand_in, str) and stand_in != "mean":
        raise DataError(f"{where}: column {shown(name)!r} holds numbers: its missing is a number, or `mean`")
    truth = pa.types.is_boolean(type_) and stand_in is None
    unit = said.unit or ("days" if pa.types.is_temporal(type_) else "")
    value = None if isinstance(stand_in, str) or stand_in is None else float(stand_in)
    feature = Feature(
        name=name, dtype="bool" if truth else "float32", shape=[], unit=unit, missing=value, log=said.log
    )
    return Rule(feature, {}, filled=stand_in == "mean")


def encoded(column: Any, rule: Rule, where: str) -> np.ndarray:
    """An Arrow array as its rule says: float64 [n]; NaN where the mean will stand.

    Raises:
        DataError: a word is none of the column's, or a value is missing where no rule says what stands there.
    """
    feature = rule.feature
    if feature.categories and not is_words(column.type):
        raw = numbers(column)
        there = ~np.isnan(raw)
        different, inverse = np.unique(raw[there], return_inverse=True)
        places = np.array([_place(word_of(value), rule, where) for value in different.tolist()], np.float64)
        values = np.full(len(raw), np.nan if feature.missing is None else feature.missing)
        values[there] = places[inverse.reshape(-1)]
    elif is_words(column.type):
        found = column if hasattr(column, "indices") else column.dictionary_encode()
        words = [_place(word, rule, where) for word in found.dictionary.to_pylist()]
        codes = found.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
        stands = np.nan if feature.missing is None else feature.missing
        values = np.array([*words, stands], np.float64)[codes]
    else:
        values = numbers(column) / (SECONDS_A_DAY if feature.unit == "days" and _is_time(column.type) else 1)
        if feature.missing is not None:
            values = np.where(np.isnan(values), feature.missing, values)
    if not rule.filled and np.isnan(values).any():
        raise DataError(
            f"{where}: column {shown(feature.name)!r} is empty in {int(np.isnan(values).sum()):,} rows: say what "
            "stands there in data.features (missing), or data.missing: fill"
        )
    return values


def _is_time(type_: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_temporal(type_)


def _place(word: str | None, rule: Rule, where: str) -> float:
    if word is None:
        return np.nan if rule.feature.missing is None else rule.feature.missing
    if word not in rule.places:
        raise DataError(
            f"{where}: column {shown(rule.feature.name)!r} holds {shown(word)!r}, which is none of its "
            f"{len(rule.places)} categories: correct it, or name it in data.features (categories)"
        )
    return rule.places[word]


def declared(data: Table, types: dict[str, Any], label_said: bool) -> bool:
    """Whether the task says all that a pass over the table would tell."""
    said: Iterable[Column] = data.features
    return (
        bool(data.features)
        and label_said
        and all(column.categories or not is_words(types[column.name]) for column in said)
    )
