"""Examples as people write them, by the names of their features, and answers by the names of classes.

{"age": 41, "job": "cook"}  ->  [41.0, 0.0]
[0.9, 0.1]  ->  {"label": "stays", "probabilities": {"stays": 0.9, "leaves": 0.1}}
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fededge.encoding import encode
from fededge.errors import RequestError, shown

if TYPE_CHECKING:
    from fededge.documents import Feature, Label, Schema


def examples(records: Sequence[Mapping[str, Any]], schema: "Schema") -> np.ndarray:
    """float32 [n, *schema.shape], finite, of `records`: for each example the values of its features by name.

    A word stands for its category; a value that is missing or None is what the schema puts in its place.

    Raises:
        RequestError: no records, or one with an unknown, missing or unusable value.
    """
    if not records:
        raise RequestError("there are no examples: send at least one", "EMPTY")
    known = {feature.name for feature in schema.features}
    for record in records:
        if unknown := sorted(set(record) - known):
            raise RequestError(
                f"{shown(str(unknown[0]))} is no feature: send {shown(', '.join(sorted(known)), 300)}",
                "UNKNOWN_FEATURE",
            )
    columns = [_column([record.get(f.name) for record in records], f) for f in schema.features]
    made = (
        columns[0] if len(columns) == 1 else np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)
    )
    return made.reshape(len(records), *schema.shape)


def answers(outputs: np.ndarray, x: np.ndarray, schema: "Schema") -> list[dict[str, Any]]:
    """What outputs float32 [n, schema.outputs] of a model say about examples x float32 [n, *schema.shape].

    | kind of label | answer |
    |---|---|
    | class | label, probabilities by class |
    | multi-label | labels that hold, probabilities by label |
    | number | value, or values |
    | sequence | labels, one for each step |
    | none | error: mean squared difference between encoded example and what the model made of it |
    """
    label = schema.label
    names = class_names(label)
    if label.kind == "class":
        return [
            {"label": names[row.argmax()], "probabilities": dict(zip(names, row.tolist(), strict=True))}
            for row in outputs
        ]
    if label.kind == "multi-label":
        return [
            {
                "labels": [name for name, value in zip(names, row, strict=True) if value > 0.5],
                "probabilities": dict(zip(names, row.tolist(), strict=True)),
            }
            for row in outputs
        ]
    if label.kind == "number":
        return [{"value": row[0]} if len(row) == 1 else {"values": row} for row in outputs.tolist()]
    if label.kind == "sequence":
        places = outputs.reshape(len(outputs), *label.shape, label.classes).argmax(axis=2)
        return [{"labels": [names[place] for place in row]} for row in places]
    errors = ((encode(schema, x).reshape(len(x), -1) - outputs) ** 2).mean(axis=1)
    return [{"error": value} for value in errors.tolist()]


def class_names(label: "Label") -> list[str]:
    """Names of the classes of `label`, numbers where it has none."""
    return label.names or [str(number) for number in range(label.classes)]


def output_names(schema: "Schema") -> list[str]:
    """A name for each of a model's outputs."""
    label = schema.label
    if label.kind in ("class", "multi-label"):
        return class_names(label)
    if label.kind == "number" and schema.outputs == 1:
        return [label.name or "value"]
    return [f"{label.name or 't'}:{number}" for number in range(schema.outputs)]


def _column(values: Sequence[Any], feature: "Feature") -> np.ndarray:
    """float32 [n, *feature.shape] of the values of one feature."""
    if not feature.shape:
        return np.array([_number(value, feature) for value in values], np.float32)
    try:
        made = np.array(values, np.float32).reshape(len(values), *feature.shape)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"{feature.name} of an example is not numbers of shape {feature.shape}", "WRONG_SHAPE"
        ) from error
    if not np.isfinite(made).all():
        raise RequestError(f"{feature.name} holds NaN or infinity: send finite numbers", "NOT_FINITE")
    return made


def _number(value: Any, feature: "Feature") -> float:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        if feature.missing is None:
            raise RequestError(f"{feature.name} is missing: give it a value", "MISSING_FEATURE")
        return feature.missing
    if feature.categories:
        if (word := str(value)) in feature.categories:
            return float(feature.categories.index(word))
        raise RequestError(
            f"{feature.name} {shown(word)!r} is none of {shown(', '.join(feature.categories), 200)}",
            "UNKNOWN_CATEGORY",
        )
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"{feature.name} {shown(str(value))!r} is not a number", "WRONG_TYPE") from error
    if not abs(number) <= np.finfo(np.float32).max:
        raise RequestError(f"{feature.name} is beyond float32: send finite numbers", "NOT_FINITE")
    return number
