"""Changes to a task on the command line: `--set learning.rounds=5`."""

import copy
from collections.abc import Sequence
from typing import Any

from fededge.errors import TaskError, shown
from fededge.task.federated_task import FederatedTask
from fededge.task.keys import schema_at, unknown
from fededge.yaml_text import Content, Place, dotted, read


def changed(content: Content, changes: Sequence[str]) -> Content:
    """`content` with `changes` made in their order.

    Args:
        content: of a task file.
        changes: `key=value`, where the key is dotted (`variants.0.max_bytes`) and the value is YAML.

    Raises:
        TaskError: a change has another form, or names a key that a task does not have.
    """
    value, places = copy.deepcopy(content.value), dict(content.places)
    for change in changes:
        label = f"--set {shown(change)}"
        name, given, text = change.partition("=")
        if not given or not name.strip():
            raise TaskError(f"{label}: give KEY=VALUE, such as learning.rounds=5")
        place = tuple(
            int(key) if key.isdecimal() and key.isascii() else key for key in name.strip().split(".")
        )
        _known(place, label)
        _put(value, place, _value(place, text, label), label)
        places = {known: where for known, where in places.items() if known[: len(place)] != place}
        places[place] = label
    return Content(value, places)


def _known(place: Place, label: str) -> None:
    """Check that a task has such a place."""
    for end, key in enumerate(place):
        if not schema_at(place[: end + 1]):
            if isinstance(key, int):
                reason = f"{dotted(place[:end])} is no list"
            elif any("items" in node for node in schema_at(place[:end])):
                reason = f"{dotted(place[:end])} is a list: name an entry by its number, from 0"
            else:
                reason = unknown(place[: end + 1])
            raise TaskError(f"{label}: {dotted(place)}: {reason}")


def _value(place: Place, text: str, label: str) -> Any:
    """`text` as YAML; where a task has text, a number or a truth value is taken as it was written."""
    found = read(text, label).value
    only_text = {node.get("type") for node in schema_at(place)} <= {"string", "null"}
    return text.strip() if only_text and isinstance(found, int | float) else found


def _put(content: Any, place: Place, value: Any, label: str) -> None:
    """Put `value` at `place` into `content`; lists that are not there are those that a task has by default."""
    for depth, key in enumerate(place):
        if isinstance(key, int):
            if not isinstance(content, list) or key >= len(content):
                count = len(content) if isinstance(content, list) else 0
                raise TaskError(
                    f"{label}: {dotted(place[:depth])} has {count} entries, counted from 0: there is no {key}"
                )
        elif not isinstance(content, dict):
            raise TaskError(f"{label}: {dotted(place[:depth])} is no mapping in the task file")
        if depth == len(place) - 1:
            content[key] = value
        elif isinstance(key, int) or content.get(key) is not None:
            content = content[key]
        else:
            content[key] = content = _default(place[: depth + 1])


def _default(place: Place) -> Any:
    """What a task has at `place` where its file says nothing."""
    if len(place) == 1 and isinstance(default := FederatedTask.model_fields[str(place[0])].default, list):
        return [part.model_dump(mode="json", exclude_unset=True) for part in default]
    return {}
