"""A model version as MLflow's own kind of model, pyfunc: loaded, called and served by MLflow alone.

`save` writes the folder that MLflow reads: code (answering.py), a variant, the schema, a signature, an example
of the input, and the packages of the environment that MLflow builds for it.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from fededge import storage
from fededge.documents import Feature, Schema
from fededge.kinds import SUFFIXES, Kind, runtime_of
from fededge.tracking.connection import QUIET

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

RUNTIMES = {"litert": "ai-edge-litert==2.3.0", "onnx": "onnxruntime==1.28.0"}
REQUIREMENTS = ("mlflow==3.17.2", "numpy==2.4.6", "pandas==3.1.1")
"""What the code needs beside the runtime of its variant; the versions that this FedEdge's own environments have."""
CODE = Path(__file__).with_name("answering.py")
EXAMPLES = 2


def save(folder: Path, schema: Schema, variants: Path, kinds: Sequence[str], name: str) -> str:
    """Write the pyfunc model to `folder`, in place of what is there.

    Args:
        folder: is made.
        schema: of the examples.
        variants: folder with a file for each of `kinds`.
        kinds: of variants, at least one.
        name: of the task.

    Returns:
        The kind of the variant that answers.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    from mlflow import pyfunc

    kind = next(kind for kind in get_args(Kind) if kind in kinds)
    data, runtime = storage.read(str(variants / kind)), runtime_of(kind)
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "model"
        schema.write(Path(place) / "schema.json")
        variant = Path(place) / f"variant.{SUFFIXES[runtime]}"
        variant.write_bytes(data)
        shutil.copyfile(CODE, Path(place) / CODE.name)
        with _quiet():
            pyfunc.save_model(
                made,
                python_model=f"{place}/{CODE.name}",
                artifacts={"schema": f"{place}/schema.json", "variant": str(variant)},
                signature=signature(schema),
                input_example=mock(schema),
                pip_requirements=[*REQUIREMENTS, RUNTIMES[runtime]],
                metadata=_facts(schema, kind, storage.digest(data), name),
            )
        for file in sorted(each for each in made.rglob("*") if each.is_file()):
            storage.write(str(folder / file.relative_to(made)), file.read_bytes())
    return kind


def signature(schema: Schema) -> "ModelSignature":
    """What the model takes and gives, as MLflow's ModelSignature.

    One feature with a shape is a tensor; else each feature is a column. Columns of numbers are of any type, since
    MLflow would refuse the whole numbers of a frame where it expects others.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, TensorSpec
    from mlflow.types import Schema as MlflowSchema
    from mlflow.types.schema import AnyType

    from fededge.delivery.pyfunc.answering import output_names

    content = schema.to_content()
    names = output_names(content["features"], content["label"])
    takes: list[ColSpec | TensorSpec]
    if array := _only_array(schema):
        takes = [TensorSpec(np.dtype(array.dtype), (-1, *array.shape), array.name)]
    else:
        takes = [
            ColSpec(
                DataType.string if feature.categories and not feature.shape else AnyType(),
                feature.name,
                required=feature.missing is None,
            )
            for feature in schema.features
        ]
    words = {"class": names[:1], "sequence": names}.get(schema.label.kind, [])
    gives: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string if name in words else DataType.float, name) for name in names
    ]
    return ModelSignature(MlflowSchema(takes), MlflowSchema(gives))


def mock(schema: Schema) -> Any:
    """EXAMPLES examples that `signature` takes, made of the schema alone; no client's."""
    import pandas as pd

    if array := _only_array(schema):
        return {array.name: np.stack([_mock(array, number) for number in range(EXAMPLES)])}
    return pd.DataFrame(
        {f.name: [_mock(f, number).tolist() for number in range(EXAMPLES)] for f in schema.features}
    )


def _only_array(schema: Schema) -> Feature | None:
    """The only feature, where that is an array of numbers."""
    first = schema.features[0]
    return first if len(schema.features) == 1 and first.shape and not first.categories else None


def _mock(feature: Feature, number: int) -> np.ndarray:
    if feature.categories:
        word = feature.categories[number % len(feature.categories)]
        return np.full(feature.shape, word, object)
    if feature.dtype in ("uint8", "bool"):
        return np.full(feature.shape, number, feature.dtype)
    mean, std = feature.mean or 0.0, feature.std or 1.0
    return np.full(feature.shape, mean + number * std, feature.dtype)


def _facts(schema: Schema, kind: str, digest: str, name: str) -> dict[str, object]:
    """What MLflow shows beside the signature."""
    label = schema.label
    return {
        "fededge": {
            "task": name,
            "variant": kind,
            "digest": digest,
            "label": {"kind": label.kind, "name": label.name, "unit": label.unit},
            "units": {feature.name: feature.unit for feature in schema.features if feature.unit},
        }
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what MLflow says about packages that this environment has in other versions, or lacks."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
