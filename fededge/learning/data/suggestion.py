"""A task that fits a data set and runs as it stands, with a comment on each choice."""

import json
import math
import os
import re
from typing import Any

import numpy as np

from fededge.documents import Schema
from fededge.learning.data.survey import Survey
from fededge.task import LocalData, Table

CLIENTS = 5
COHORT = 10
FEWEST = 10
"""Examples that partition.min_examples asks of a client."""
USEFUL = 0.7
"""Share of what trees reach above chance from which on the gate lets a model pass."""
WITHOUT_TREES = 0.3
"""The same of the best score, where no trees were grown."""
SMALL = 2000
"""Examples below which a client makes more passes over its own."""
IMAGE = 32
"""Pixels of a side from which an image is large enough for the residual network."""


def suggest(
    data: LocalData,
    schema: Schema,
    counted: Survey,
    chance: float | None,
    best: float | None,
    folder: str | None = None,
) -> str:
    """The text of a task file.

    Args:
        data: the section, complete.
        schema: of the examples.
        counted: how many there are, and whose.
        chance: score of always the same answer; None where there is none.
        best: score that trees reach; None where that is not known.
        folder: of the task file: a path in it is written relative to it.
    """
    path = str(getattr(data, "path", None) or getattr(data, "name", None) or data.source)
    lines = [
        f"# A task for {_comment(os.path.basename(path))}, written by `fededge inspect`: {counted.count:,} examples.",
        f"name: {_name(path)}",
        "seed: 0",
        "data:",
        *_section(data, schema, folder),
        *_partition(data, counted),
        *_model(schema, counted),
        *_learning(schema, counted, _clients(data, counted)),
        *_gate(chance, best),
    ]
    return "\n".join(lines) + "\n"


def _section(data: LocalData, schema: Schema, folder: str | None) -> list[str]:
    content = {"source": data.source, **data.model_dump(mode="json", exclude_defaults=True)}
    if isinstance(data, Table) and not isinstance(data.label, list):
        content |= {"kind": schema.label.kind, "classes": schema.label.names or None}
    for key in ("path", "code", "x", "y"):
        path = content.get(key)
        if folder and isinstance(path, str) and os.path.isabs(path):
            near = os.path.relpath(path, folder)
            content[key] = path if near.startswith("..") else near
    lines = []
    for key, value in content.items():
        if key == "features":
            lines.append("  # what each column holds; a row with a word that is not named here is refused")
            lines.append("  features:")
            lines += [
                f"    - {_flow({k: v for k, v in each.items() if v not in (None, '', [])})}" for each in value
            ]
        elif value is not None:
            lines.append(f"  {key}: {_flow(value)}")
    return lines


def _partition(data: LocalData, counted: Survey) -> list[str]:
    if (counted.owners is not None and data.owners is not None) or data.source == "folders":
        fewest = _fewest(counted)
        if fewest >= 2:
            return [
                "partition:",
                "  kind: natural  # a client for each owner",
                f"  min_examples: {min(FEWEST, fewest)}",
            ]
    clients = _clients(data, counted)
    return [
        "partition:",
        "  kind: iid  # dirichlet with alpha 0.5 tries clients of unlike labels",
        f"  clients: {clients}",
        f"  min_examples: {max(2, min(FEWEST, counted.count // (4 * clients)))}",
    ]


def _clients(data: LocalData, counted: Survey) -> int:
    owned = (counted.owners is not None and data.owners is not None) or data.source == "folders"
    if owned and _fewest(counted) >= 2:
        return len(counted.names)
    return max(1, min(CLIENTS, counted.count // 20))


def _fewest(counted: Survey) -> int:
    """Examples of the owner with the fewest, when a fifth is held out at random."""
    assert counted.owners is not None
    smallest = int(np.bincount(counted.owners[counted.owners >= 0]).min())
    return int(smallest * 0.8 - 3 * math.sqrt(smallest * 0.16)) if counted.held is None else smallest


def _model(schema: Schema, counted: Survey) -> list[str]:
    rank = len(schema.encoded_shape)
    tokens = schema.features[0].dtype == "int64" and bool(schema.features[0].shape)
    if tokens:
        return ["model:", "  name: transformer", "  arguments: {vocabulary: 256}  # number of tokens"]
    if rank == 3 and min(schema.shape[:2]) >= 16:
        name = "cnn" if schema.shape[2] == 1 or min(schema.shape[:2]) < IMAGE else "resnet"
        return ["model:", f"  name: {name}  # for images"]
    if rank == 2:
        return ["model:", "  name: cnn1d  # for series of [steps, channels]; gru is another"]
    hidden = [64, 32] if counted.count < SMALL else [128, 64]
    return [
        "model:",
        "  name: mlp  # a multilayer perceptron",
        f"  arguments: {{hidden: {hidden}, dropout: 0.1}}",
    ]


def _learning(schema: Schema, counted: Survey, clients: int) -> list[str]:
    each = counted.count // clients
    epochs = 3 if each < SMALL else 2
    return [
        "learning:",
        "  engine: simulation  # all clients in one process; federated runs each as a site of its own",
        "  rounds: 20",
        f"  client: {{optimizer: adam, learning_rate: 0.001, epochs: {epochs}, batch_size: 32}}",
        f"  cohort: {{size: {min(COHORT, clients)}}}",
        "operation:",
        "  rounds_per_step: 10",
    ]


def _gate(chance: float | None, best: float | None) -> list[str]:
    if chance is None:
        return ["gate:", "  min: 0.1  # R2 of what the model gives back", *_variants()]
    top = best if best is not None and best > chance else None
    least = chance + USEFUL * (top - chance) if top is not None else chance + WITHOUT_TREES * (1 - chance)
    told = (
        f"trees reach {top:.3f} on the pooled data, always the same answer {chance:.3f}"
        if top is not None
        else f"always the same answer has {chance:.3f}"
    )
    return ["gate:", f"  min: {math.floor(least * 1000) / 1000}  # {told}", *_variants()]


def _variants() -> list[str]:
    return ["variants:", "  - {kind: float32}", "  - {kind: dynamic-int8}"]


def _name(path: str) -> str:
    stem = os.path.basename(path.rstrip("/")).split(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40].strip("-") or "my-task"


def _flow(value: Any) -> str:
    """A value in YAML's flow style, whose strings are JSON's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", value)
        and value.lower() not in RESERVED
    ):
        return value
    return json.dumps(value)


RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "none"}
"""Words that are something else than words to a reader of YAML."""


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
