"""What is in a data set that nobody has learned from yet, and a task that fits it.

    python -m fededge.learning.data.inspection < request.json

reads a `Request` and writes an `Answer`. Nothing else is written, and TensorFlow is not imported.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, TypeAdapter

from fededge.documents import Bar, ColumnFinding, Finding, Inspection, Label, Schema
from fededge.errors import FedEdgeError
from fededge.learning.data import columns, sampling
from fededge.learning.data.columns import Found
from fededge.learning.data.sampling import Sample
from fededge.learning.data.sources import client_folders, delimited, open_source, parquet
from fededge.learning.data.suggestion import suggest
from fededge.learning.data.survey import Survey, survey
from fededge.learning.data.table_files import TableFile
from fededge.learning.data.table_schema import LONGEST_NAME, MOST_WORDS
from fededge.metrics import METRIC
from fededge.task import Column, CsvData, FoldersData, LocalData, Table

BARS = 12
OWNERS = 200
"""Owners whose examples are shown."""
RARE = 0.05
"""Share of a class below which the classes are called unbalanced, where there are few."""


class Request(BaseModel):
    """What to inspect: a task's section `data`, and whether it may be completed by guessing."""

    data: LocalData
    guess: bool = True
    folder: str | None = None


class Answer(BaseModel):
    """The inspection, or the named error that the data end with."""

    inspection: Inspection | None = None
    error: str | None = None
    message: str = ""


def inspect(data: LocalData, guess: bool = True, folder: str | None = None) -> Inspection:
    """Look at all of a data set.

    Args:
        data: the section of a task, as far as it is known.
        guess: complete it: label, owner, features, what is missing.
        folder: of the task file that is suggested: a path in it is written relative to it.

    Raises:
        DataError: missing, malformed, or not what the section says.
        StorageError: it cannot be read.
    """
    notes: list[Finding] = []
    found: dict[str, Found] = {}
    if isinstance(data, Table):
        files = _files(data)
        if files is not None:
            found = columns.look_at(files)
            completed = _completed(data, found, notes) if guess else data
            data = TypeAdapter(LocalData).validate_python(completed)
    source = open_source(data, 0)
    counted = survey(source)
    drawn = sampling.sample(source)
    schema = source.schema
    metric = "" if schema.label.kind == "none" else METRIC[schema.label.kind]
    chance, best = sampling.compared(drawn, schema)
    owners = _owners(counted)
    notes += _notes(schema, drawn, counted, chance, best, metric)
    return Inspection(
        data=str(getattr(data, "path", None) or getattr(data, "name", None) or data.source),
        examples=drawn.count,
        example=schema,
        columns=[*_columns(schema, drawn, found, data), *_left_out(found, schema, data)],
        owners=owners[:OWNERS],
        owner_count=len(owners),
        duplicates=drawn.duplicates,
        metric=metric,
        chance=chance,
        reached=best,
        findings=notes,
        task=suggest(data, schema, counted, chance, best, folder),
    )


def _files(data: Table) -> list[TableFile] | None:
    if isinstance(data, FoldersData):
        return client_folders.tables(data)
    opened = (
        delimited.opened(data.path, data, None)
        if isinstance(data, CsvData)
        else parquet.opened(data.path, data)
    )
    return [opened]


def _completed(data: Table, found: dict[str, Found], notes: list[Finding]) -> Table:
    """The section with a label, an owner, and each column's rule."""
    said: dict[str, object] = {}
    if data.label is None and data.kind != "none":
        said["label"] = columns.guessed_label(found)
        notes.append(_info(f"the label was guessed to be {said['label']}: name another with --label"))
    known = data.model_copy(update=said)
    if data.owner is None and not isinstance(data, FoldersData):
        owner = columns.guessed_owner(found, known)
        if owner is not None:
            said["owner"] = owner
            notes.append(_info(f"column {owner} names owners by its name, and each of them becomes a client"))
    known = known.model_copy(update=said)
    aside = {*known.labels, *filter(None, [known.owner, known.time])}
    if not data.features:
        used = {name: each for name, each in found.items() if name not in aside and not each.left_out(name)}
        said["features"] = [_rule(name, each) for name, each in used.items()]
    return type(data).model_validate({**known.model_dump(), **said})


def _rule(name: str, found: Found) -> Column:
    if found.is_words:
        words = sorted(found.words)
        return Column(name=name, categories=words, missing="missing" if found.missing else None)
    if found.codes:
        return Column(name=name, categories=found.codes, missing="missing" if found.missing else None)
    return Column(name=name, missing="mean" if found.missing else None, log=found.unit_of_logarithm)


def _columns(schema: Schema, drawn: Sample, found: dict[str, Found], data: LocalData) -> list[ColumnFinding]:
    flat = drawn.x.reshape(len(drawn.x), -1)
    made, start = [], 0
    for feature in schema.features:
        values = flat[:, start : start + feature.size].reshape(-1)
        start += feature.size
        raw = found.get(feature.name)
        kind = "array" if feature.shape else "words" if feature.categories else "number"
        if feature.dtype == "bool":
            kind = "truth"
        numbers = _Numbers() if feature.categories else _numbers(values)
        made.append(
            ColumnFinding(
                name=feature.name,
                role="feature",
                kind=kind,
                missing=raw.missing if raw else 0,
                distinct=len(feature.categories) or None,
                bars=_words(values, feature.categories) if feature.categories else _ranges(values),
                note=feature.unit,
                low=numbers.low,
                high=numbers.high,
                mean=numbers.mean,
                std=numbers.std,
            )
        )
    if schema.label.kind != "none":
        made.append(_label(schema.label, drawn.y))
    return made


def _label(label: Label, y: np.ndarray) -> ColumnFinding:
    name = label.name or "label"
    if label.kind == "number":
        found = _numbers(y.reshape(-1))
        return ColumnFinding(
            name=name,
            role="label",
            kind="number",
            bars=_ranges(y.reshape(-1)),
            low=found.low,
            high=found.high,
            mean=found.mean,
            std=found.std,
        )
    names = label.names or [str(number) for number in range(label.classes)]
    counts = (
        y.sum(axis=0) if label.kind == "multi-label" else np.bincount(y.reshape(-1), minlength=label.classes)
    )
    bars = [Bar(name=each, count=int(number)) for each, number in zip(names, counts, strict=True)]
    return ColumnFinding(
        name=name, role="label", kind=label.kind, distinct=label.classes, bars=bars[: 4 * BARS]
    )


def _left_out(found: dict[str, Found], schema: Schema, data: LocalData) -> Iterator[ColumnFinding]:
    used = {feature.name for feature in schema.features}
    for name, each in found.items():
        if name in used or (isinstance(data, Table) and name in data.labels):
            continue
        roles: dict[str | None, Literal["owner", "time"]] = {
            getattr(data, "owner", None): "owner",
            getattr(data, "time", None): "time",
        }
        yield ColumnFinding(
            name=name[:LONGEST_NAME] or "(no name)",
            role=roles.get(name, "left out"),
            kind="words" if each.is_words else "number",
            missing=each.missing,
            distinct=len(each.words) if 0 < len(each.words) <= MOST_WORDS else None,
            note="" if name in roles else each.left_out(name),
        )


def _notes(
    schema: Schema, drawn: Sample, counted: Survey, chance: float | None, best: float | None, metric: str
) -> Iterator[Finding]:
    if drawn.duplicates:
        share = drawn.duplicates / min(drawn.count, sampling.HASHED)
        text = f"{drawn.duplicates:,} examples ({share:.1%}) are the same as one before them"
        yield Finding(severity="warn" if share > RARE else "info", text=text)
    label = schema.label
    if label.kind == "class" and label.classes > 1:
        counts = np.bincount(counted.groups, minlength=label.classes)
        rare = int(counts.argmin())
        if counts[rare] < RARE / max(1, label.classes / 10) * counted.count:
            name = label.names[rare] if label.names else rare
            text = f"the classes are unbalanced: {name} has {counts[rare]:,} of {counted.count:,} examples"
            yield Finding(severity="warn", text=text)
    if best is not None and chance is not None:
        text = f"trees reach {metric} {best:.3f} on a held-out part; always the same answer has {chance:.3f}"
        yield Finding(severity="info", text=text)
        if best - chance < 0.02 * (1 - chance):
            text = "the features tell next to nothing of the label: a model will not be useful"
            yield Finding(severity="warn", text=text)
    if drawn.count < 200:
        yield Finding(
            severity="warn", text=f"{drawn.count} examples are few: scores will vary from split to split"
        )


def _owners(counted: Survey) -> list[Bar]:
    if counted.owners is None:
        return []
    counts = np.bincount(counted.owners[counted.owners >= 0], minlength=len(counted.names))
    return [
        Bar(name=counted.names[place], count=int(counts[place]))
        for place in np.argsort(-counts, kind="stable")
    ]


@dataclass(frozen=True)
class _Numbers:
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None


def _numbers(values: np.ndarray) -> _Numbers:
    there = values[~np.isnan(values)].astype(np.float64)
    if not there.size:
        return _Numbers()
    return _Numbers(float(there.min()), float(there.max()), float(there.mean()), float(there.std()))


def _ranges(values: np.ndarray) -> list[Bar]:
    there = values[~np.isnan(values)].astype(np.float64)
    if not there.size:
        return []
    counts, edges = np.histogram(there, BARS)
    return [
        Bar(name=f"{low:.4g} to {high:.4g}", count=int(number))
        for low, high, number in zip(edges, edges[1:], counts, strict=False)
    ]


def _words(values: np.ndarray, words: list[str]) -> list[Bar]:
    counts = np.bincount(values.astype(np.int64), minlength=len(words))
    order = np.argsort(-counts, kind="stable")[:BARS]
    return [Bar(name=words[place] or "(empty)", count=int(counts[place])) for place in order]


def _info(text: str) -> Finding:
    return Finding(severity="info", text=text)


def main() -> None:
    """Inspect what the request on standard input names; status 2 where the data end with a named error."""
    try:
        request = Request.model_validate_json(sys.stdin.read())
        answer = Answer(inspection=inspect(request.data, request.guess, request.folder))
    except FedEdgeError as error:
        answer = Answer(error=type(error).__name__, message=str(error))
    print(answer.model_dump_json())
    sys.exit(2 if answer.error else 0)


if __name__ == "__main__":
    main()
