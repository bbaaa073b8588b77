"""What the examples of a group of sensors are: their schema, and how a message becomes numbers of it."""

from collections.abc import Mapping

import numpy as np

from fededge.device.relay.payload import Reason, Refused, Value
from fededge.device.relay.settings import Group, LabelRule
from fededge.documents import Feature, Label, Schema


def schema_of(group: Group) -> Schema:
    """Of the examples that are made of the group's readings."""
    if group.dataset.window > 1:
        width = sum(field.size for field in group.features)
        features = [Feature(name="window", dtype="float32", shape=[group.dataset.window, width])]
    else:
        features = [
            Feature(
                name=field.name,
                dtype=field.dtype,
                shape=field.shape,
                unit=field.unit,
                categories=field.categories,
            )
            for field in group.features
        ]
    return Schema(features=features, label=_label(group))


def vector(group: Group, values: Mapping[str, Value]) -> bytes:
    """The features of a reading, float32, little-endian, side by side."""
    row: list[float] = []
    for field in group.features:
        value = values[field.name]
        row.extend(value if isinstance(value, list) else (value,))
    return np.array(row, "<f4").tobytes()


def label_of(rule: LabelRule, label: Label, values: Mapping[str, Value]) -> float:
    """The label that a message's values tell: the place of its class, or a number.

    Raises:
        Refused: it is none of the classes.
    """
    value = values[rule.field]
    assert not isinstance(value, list)
    if rule.above is not None:
        return float(value > rule.above)
    if label.kind == "class" and not 0 <= value < label.classes:
        raise Refused(Reason.bounds)
    return float(value)


def _label(group: Group) -> Label:
    rule = group.label
    if rule is None:
        return Label(kind="none")
    field = (rule.payload or group.payload).field(rule.field)
    assert field
    name = rule.name or field.name
    names = rule.classes or ([] if rule.above is not None else field.categories)
    if names or field.type == "bool":
        return Label(kind="class", classes=len(names) or 2, names=names, name=name)
    return Label(kind="number", name=name, unit=field.unit)
