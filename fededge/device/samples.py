"""A device's own labeled samples, and how well a model does on them."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from fededge import counting, examples
from fededge.counting import unnamed
from fededge.device.performance import Performance
from fededge.documents import Schema
from fededge.documents.base import ACCURACY
from fededge.errors import DataError, ReleaseError
from fededge.inference import LoadedModel
from fededge.metrics import METRIC

BYTES_LIMIT = 256 << 20
TIMED = 21


@dataclass(frozen=True)
class Samples:
    """`x` and `y` as stored, n of each; `schema`: what they are, None where they came without one."""

    x: np.ndarray
    y: np.ndarray
    schema: Schema | None = None


def read(folder: Path) -> Samples:
    """The samples in `folder`: x.npy, y.npy and, where they are of anything but classes, schema.json.

    Raises:
        DataError: a file is missing, empty, too large or malformed, or holds something not finite.
        DocumentError: the schema is malformed.
    """
    described = folder / "schema.json"
    schema = Schema.read(described) if described.exists() else None
    return Samples(*examples.read(folder, limit=BYTES_LIMIT), schema)


def try_out(model: LoadedModel, samples: Samples | None, shape: list[int], classes: int) -> Performance:
    """Run `model`, released for examples of `shape` and `classes` outputs, on `samples` (or a blank).

    Raises:
        DataError: the samples have another shape, or labels of another kind.
        ReleaseError: the model has another shape, fails, or gives outputs that are not finite.
    """
    if list(model.input_shape) != shape or model.classes != classes:
        raise ReleaseError(
            f"the model takes {list(model.input_shape)} and gives {model.classes} outputs, but was released "
            f"for {shape} and {classes}. Release a variant of this task's model"
        )
    if samples is None or not len(samples.y):
        return Performance(ACCURACY, None, _answers(model, np.zeros((1, *shape), np.float32))[1])
    schema = samples.schema or (unnamed(shape, classes) if classes > 1 else None)
    if schema is None:
        return Performance(ACCURACY, None, _answers(model, examples.floats(samples.x))[1])
    if schema.outputs != classes:
        raise DataError(
            f"the samples' schema asks for {schema.outputs} outputs where the model gives {classes}: give samples of "
            "the task's schema"
        )
    x = examples.floats(samples.x)
    outputs, latency = _answers(model, x)
    return Performance(METRIC[schema.label.kind], counting.score(schema, outputs, x, samples.y), latency)


def _answers(model: LoadedModel, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Outputs for `x`, and the median milliseconds for one example."""
    seconds = []
    try:
        outputs = model.predict(x)
        for at in range(TIMED):
            one = x[at % len(x)][None]
            started = time.perf_counter()
            model.predict(one)
            seconds.append(time.perf_counter() - started)
    except RuntimeError as error:
        raise ReleaseError(f"the model fails on this device: {error}. Release a working variant") from error
    if not np.isfinite(outputs).all():
        raise ReleaseError("the model's outputs are not finite. Release a working variant")
    return outputs, round(1000 * median(seconds), 4)
