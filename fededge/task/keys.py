"""The keys of a task file: which there are at a place, near matches, and those that were renamed."""

import difflib
import functools
from collections.abc import Iterator
from typing import Any

from fededge.errors import SHOWN
from fededge.task.federated_task import json_schema
from fededge.task.text import Place, dotted

RENAMED = {
    "learning.cohort.quorum": "operation.quorum",
    "learning.cohort.deadline_seconds": "operation.round_deadline_seconds",
    "learning.rounds_per_step": "operation.rounds_per_step",
    "endpoint.replicas": "operation.replicas",
    "gate.max_gap_to_centralised": "gate.max_gap_to_centralized",
}
"""Keys of earlier versions, and what they are called now."""


def keys_at(place: Place) -> list[str]:
    """The keys that a mapping at `place` may have; none where there is no mapping."""
    return sorted({key for node in schema_at(place) for key in node.get("properties", {})})


def schema_at(place: Place) -> list[dict[str, Any]]:
    """JSON Schemas of which a value at `place` must fit one; none where a task has no such place."""
    nodes = list(_alternatives(_schema()))
    for key in place:
        inner = [n.get("items") if isinstance(key, int) else n.get("properties", {}).get(key) for n in nodes]
        nodes = [each for node in inner if node is not None for each in _alternatives(node)]
    return nodes


def unknown(place: Place) -> str:
    """What to say about a key that a task does not have at `place`."""
    name = ".".join(map(str, place))
    if name in RENAMED:
        return f"this key is now {RENAMED[name]}: write it there"
    siblings = keys_at(place[:-1])
    if place[-1] in siblings:
        return f"this key goes with {' or '.join(_unions_with(place))}"
    near = difflib.get_close_matches(str(place[-1])[:SHOWN], siblings, n=2)
    if near:
        return f"unknown key; did you mean {' or '.join(near)}?"
    return (
        f"unknown key; {dotted(place[:-1])} has {', '.join(siblings)}"
        if siblings
        else "unknown key; remove it"
    )


def _unions_with(place: Place) -> Iterator[str]:
    """Which members of a union, told by their constants, have the key at `place`."""
    for node in schema_at(place[:-1]):
        if place[-1] in node["properties"]:
            for name, value in node["properties"].items():
                if "const" in value:
                    yield f"{dotted((*place[:-1], name))} {value['const']}"


@functools.cache
def _schema() -> dict[str, Any]:
    return json_schema()


def _alternatives(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that `node` offers, with references followed."""
    if "$ref" in node:
        node = _schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    choices = node.get("anyOf") or node.get("oneOf")
    if choices is None:
        yield node
    for choice in choices or ():
        yield from _alternatives(choice)
