"""The keys of a task file: which there are at a place, near matches, and those that were renamed."""

import difflib
import functools
from collections.abc import Iterator
from typing import Any

from fededge.errors import SHOWN
from fededge.task.base import Part
from fededge.task.federated_task import FederatedTask, json_schema
from fededge.task.steps import StepSettings
from fededge.yaml_text import Place, dotted

RENAMED = {
    "learning.cohort.quorum": "operation.quorum",
    "learning.cohort.deadline_seconds": "operation.round_deadline_seconds",
    "learning.rounds_per_step": "operation.rounds_per_step",
    "endpoint.replicas": "operation.replicas",
    "gate.max_gap_to_centralised": "gate.max_gap_to_centralized",
}
"""Keys of earlier versions, and what they are called now."""
NOT_BY_STEP = {
    "priority": "give the cluster a default PriorityClass, or set podPriorityClassName in Argo's workflowDefaults",
    "service_account": "all steps of a run share one account: give that account the rights or the workload identity",
    "ephemeral_storage": "mount a volume with `ephemeral` or `empty_dir`, or let a LimitRange of the namespace say it",
    "pod_affinity": "keep steps together or apart by node_selector, node_affinity and tolerations",
    "pod_anti_affinity": "keep steps together or apart by node_selector, node_affinity and tolerations",
}
"""What Kubernetes has for a pod and Kubeflow Pipelines cannot say for a step, and what to do instead."""


def keys_at(place: Place, model: type[Part] = FederatedTask) -> list[str]:
    """The keys that a mapping at `place` may have; none where there is no mapping, or where any name will do."""
    return sorted({key for node in schema_at(place, model) for key in node.get("properties", {})})


def schema_at(place: Place, model: type[Part] = FederatedTask) -> list[dict[str, Any]]:
    """JSON Schemas of which a value at `place` must fit one; none where a `model` has no such place."""
    nodes = list(_alternatives(_schema(model), model))
    for key in place:
        inner = [n.get("items") if isinstance(key, int) else _property(n, key) for n in nodes]
        nodes = [each for node in inner if node for each in _alternatives(node, model)]
    return nodes


def unknown(place: Place, model: type[Part] = FederatedTask) -> str:
    """What to say about a key that a `model`, a task or another file, does not have at `place`."""
    name = ".".join(map(str, place))
    if name in RENAMED:
        return f"this key is now {RENAMED[name]}: write it there"
    siblings = keys_at(place[:-1], model)
    if place[-1] in siblings:
        return f"this key goes with {' or '.join(_unions_with(place))}"
    if siblings == sorted(StepSettings.model_fields) and place[-1] in NOT_BY_STEP:
        return f"Kubeflow Pipelines cannot say this for a step: {NOT_BY_STEP[str(place[-1])]}"
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


def _property(node: dict[str, Any], key: str) -> Any:
    """The schema of the value of `key`; where any name will do, the one that all values have."""
    named, any_name = node.get("properties", {}), node.get("patternProperties", {})
    return named.get(key) or next(iter(any_name.values()), None)


@functools.cache
def _schema(model: type[Part]) -> dict[str, Any]:
    return json_schema(model)


def _alternatives(node: dict[str, Any], model: type[Part]) -> Iterator[dict[str, Any]]:
    """The schemas that `node` offers, with references followed."""
    if "$ref" in node:
        node = _schema(model)["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    choices = node.get("anyOf") or node.get("oneOf")
    if choices is None:
        yield node
    for choice in choices or ():
        yield from _alternatives(choice, model)
