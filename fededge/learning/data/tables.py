"""Tables as a source of examples: columns side by side, streamed from files that may be larger than memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fededge.documents import Schema
from fededge.errors import DataError, shown
from fededge.learning.data.labels import LabelRule, LabelSummary, label_rule
from fededge.learning.data.source import Batch, Source
from fededge.learning.data.table_files import TableFile, numbers
from fededge.learning.data.table_schema import (
    Rule,
    Seen,
    columns_of,
    declared,
    encoded,
    is_words,
    look,
    rule_of,
)
from fededge.task import Table

Opener = Callable[[Any], TableFile]


def from_tables(name: str, files: list[TableFile], data: Table, column: str | None) -> Source:
    """A source over the rows of `files`, whose columns are the same.

    What the task does not say (categories, what is missing, the label's kind) is read in a pass of its own.

    Args:
        name: of the source, in messages.
        files: at least one.
        data: what the task says.
        column: that names each row's client, in place of data.owner.

    Raises:
        DataError: a column is missing, changes its type, is empty without a rule, or its labels cannot be.
    """
    types = columns_of(files, data, column)
    owner = column or data.owner
    label_said = not data.labels or data.kind == "number" or (data.kind == "class" and bool(data.classes))
    seen: dict[str, Seen] | None = None
    summary = LabelSummary() if data.labels else None
    if not declared(data, types, label_said):
        seen = {each: Seen() for each in types}
    if seen is not None:
        for file in files:
            for rows in file.rows(list(dict.fromkeys([*types, *data.labels]))):
                for each, found in seen.items():
                    look(rows.column(each), found, each, file.name)
                if summary is not None:
                    summary.add(_labels(rows, data, file.name), file.name)
    elif summary is not None:
        summary.shape = (len(data.labels),) if len(data.labels) > 1 else ()
    rules = [rule_of(each, type_, seen[each] if seen else None, data, name) for each, type_ in types.items()]
    label = label_rule(summary, data, name, table=True)
    schema = Schema(
        features=[rule.feature for rule in rules],
        label=label.label.model_copy(update={"name": ", ".join(data.labels)[:200]}),
    )
    filled = tuple(place for place, rule in enumerate(rules) if rule.filled)
    reader = _Reader(files, data, rules, label, owner)
    return Source(name, schema, reader.batches, filled)


@dataclass(frozen=True)
class _Reader:
    files: list[TableFile]
    data: Table
    rules: list[Rule]
    label: LabelRule
    owner: str | None

    def batches(self) -> Iterator[Batch]:
        """A pass over all files."""
        named = [rule.feature.name for rule in self.rules]
        wanted = [*named, *self.data.labels, *filter(None, [self.owner, self.data.time])]
        for file in self.files:
            for rows in file.rows(list(dict.fromkeys(wanted))):
                x = np.empty((rows.num_rows, len(self.rules)), np.float32)
                with np.errstate(over="ignore"):
                    for place, rule in enumerate(self.rules):
                        x[:, place] = encoded(rows.column(rule.feature.name), rule, file.name)
                raw = _labels(rows, self.data, file.name) if self.data.labels else None
                yield Batch(
                    x, self.label.encode(raw, len(x)), self._owners(rows, file), _times(rows, self.data, file)
                )

    def _owners(self, rows: Any, file: TableFile) -> np.ndarray | None:
        import pyarrow as pa

        if file.owner is not None:
            return np.full(rows.num_rows, file.owner)
        if self.owner is None:
            return None
        found = rows.column(self.owner)
        if found.null_count:
            raise DataError(
                f"{file.name}: column {shown(self.owner)!r} names no owner in {found.null_count:,} rows: name one in "
                "each, or remove those rows"
            )
        return np.asarray(found.cast(pa.string()).to_numpy(zero_copy_only=False), str)


def _labels(rows: Any, data: Table, where: str) -> np.ndarray:
    """The label's columns: words or numbers [n], or numbers of several columns side by side [n, k]."""
    import pyarrow as pa

    found = []
    for name in data.labels:
        column = rows.column(name)
        if is_words(column.type):
            column = column.cast(pa.string()) if hasattr(column, "indices") else column
        if column.null_count:
            raise DataError(
                f"{where}: label {shown(name)!r} is empty in {column.null_count:,} rows: remove those rows"
            )
        if is_words(column.type):
            if len(data.labels) > 1:
                raise DataError(
                    f"{where}: label {shown(name)!r} holds words; several labels side by side are numbers: give one "
                    "label, or numbers"
                )
            found.append(np.asarray(column.to_numpy(zero_copy_only=False), str))
        else:
            values = numbers(column)
            found.append(values.astype(bool) if pa.types.is_boolean(column.type) else values)
    if len(found) == 1:
        return found[0]
    side = np.stack([each.astype(np.float64) for each in found], axis=1)
    return side.astype(np.int64) if ((side == 0) | (side == 1)).all() and data.kind != "number" else side


def _times(rows: Any, data: Table, file: TableFile) -> np.ndarray | None:
    if data.time is None:
        return None
    column = rows.column(data.time)
    if is_words(column.type):
        raise DataError(
            f"{file.name}: column {shown(data.time)!r} holds words where a time is expected: write times as "
            "2026-01-31 12:00:00, or as numbers"
        )
    return numbers(column)
