"""A device's own labeled samples, and how well a model does on them."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from fededge import examples
from fededge.errors import ReleaseError
from fededge.inference import LoadedModel

BYTES_LIMIT = 256 << 20
TIMED = 21


@dataclass(frozen=True)
class Samples:
    """`x`: float32 [n, ...], finite; `y`: int64 [n]."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Performance:
    """`score`: None without samples; `latency_ms`: median for one example."""

    score: float | None
    latency_ms: float


def read(folder: Path) -> Samples:
    """The samples in `folder`/x.npy and y.npy.

    Raises:
        DataError: a file is missing, empty, too large or malformed, or holds something not finite.
    """
    return Samples(*examples.read(folder, limit=BYTES_LIMIT))


def try_out(model: LoadedModel, samples: Samples | None, shape: list[int], classes: int) -> Performance:
    """Run `model`, released for examples of `shape` and `classes` outputs, on `samples` (or a blank).

    Raises:
        DataError: the samples have another shape.
        ReleaseError: the model has another shape, fails, or gives outputs that are not finite.
    """
    if list(model.input_shape) != shape or model.classes != classes:
        raise ReleaseError(
            f"the model takes {list(model.input_shape)} and gives {model.classes} outputs, but was released "
            f"for {shape} and {classes}. Release a variant of this task's model"
        )
    if samples is None or not len(samples.y):
        return _measure(model, np.zeros((1, *shape), np.float32), None)
    return _measure(model, samples.x, samples.y)


def _measure(model: LoadedModel, x: np.ndarray, y: np.ndarray | None) -> Performance:
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
    score = None if y is None else float((outputs.argmax(axis=1) == y).mean())
    return Performance(score, round(1000 * median(seconds), 4))
