"""What a run learned from, as MLflow's data set: its schema, its counts and its digest, and no example."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fededge import storage
from fededge.documents import Population, Schema

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

LONGEST = 36
"""Characters of a data set's digest in MLflow."""
MOST = 2000
"""Features that its schema lists."""
TYPES = {"float32": "float", "int64": "long", "uint8": "integer", "bool": "boolean"}


def dataset_input(population: Population, source: str) -> "DatasetInput":
    """The population as the data set `source` that a run was trained with.

    Its digest is the beginning of the one of the clients' examples; where those stay at the clients, of their counts.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = population.data_digest or storage.digest(population.to_bytes())
    profile = {
        "num_rows": population.examples,
        "clients": population.size,
        "training": sum(client.train for client in population.clients),
    }
    made = Dataset(
        name=source,
        digest=digest.removeprefix("sha256:")[:LONGEST],
        source_type="fededge",
        source=json.dumps({"source": source, "digest": digest}),
        schema=json.dumps({"mlflow_colspec": _columns(population.example)}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset=made, tags=[InputTag("mlflow.data.context", "training")])


def _columns(schema: Schema) -> list[dict[str, object]]:
    """Features and label as MLflow's column specifications."""
    columns = [
        _column(f.name, "string" if f.categories else TYPES[f.dtype], f.shape, f.missing is None)
        for f in schema.features[:MOST]
    ]
    label = schema.label
    if label.kind != "none":
        named = label.names and label.kind in ("class", "sequence")
        kind = "string" if named else TYPES[label.dtype]
        columns.append(_column(label.name or "label", kind, label.stored_shape, True))
    return columns


def _column(name: str, kind: str, shape: Sequence[int], required: bool) -> dict[str, object]:
    typed = {"type": "array", "items": {"type": kind}} if shape else {"type": kind}
    return {"name": name, **typed, "required": required}
