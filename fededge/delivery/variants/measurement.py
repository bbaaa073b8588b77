"""What a variant costs and what it is worth: size, accuracy and latency in LiteRT."""

import gzip
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from fededge import storage
from fededge.errors import DataError, VariantError
from fededge.inference import Runtime, load_runtime

REPEATS = {1: 200, 500: 11}
WARM_UP = 3
BATCH = 500


def measure(model: bytes, kind: str, x: np.ndarray, y: np.ndarray, reference: float) -> dict[str, Any]:
    """Measure a variant on one thread of this machine.

    Args:
        model: LiteRT file.
        kind: of variant.
        x: float32 [n, height, width, channels] held-out examples.
        y: int64 [n] labels.
        reference: accuracy of the model that the variant was built from, on the same examples.

    Returns:
        kind, digest, bytes, compressed_bytes (gzip), accuracy, accuracy_loss (reference - accuracy),
        shape of an example, classes, latency_ms_1 and latency_ms_500 (milliseconds for 1 and for 500
        examples at once: the median of repeats after a warm-up).

    Raises:
        VariantError: the variant gives values that are not finite or not one row for each example.
    """
    runtime = load_runtime(model, kind="litert", threads=1)
    predicted = [runtime.predict(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    scores = np.concatenate(predicted)
    if scores.ndim != 2 or len(scores) != len(y) or not np.isfinite(scores).all():
        raise VariantError(
            f"variant {kind} answers {len(y)} examples with {scores.shape}, or with values that are not "
            "finite: build it again"
        )
    accuracy = float(np.mean(scores.argmax(axis=1) == y))
    return {
        "kind": kind,
        "digest": storage.digest(model),
        "bytes": len(model),
        "compressed_bytes": len(gzip.compress(model, mtime=0)),
        "accuracy": accuracy,
        "accuracy_loss": reference - accuracy,
        "shape": list(x.shape[1:]),
        "classes": scores.shape[1],
        **{f"latency_ms_{count}": _latency(runtime, x, count) for count in REPEATS},
    }


def held_out(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """x float32 [n, height, width, channels] and y int64 [n] in a test artifact.

    Raises:
        DataError: a file is missing or malformed, or there are no examples.
    """
    try:
        x, y = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in "xy")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"cannot read held-out examples in {folder}: {error}. Prepare the data again"
        ) from error
    if x.dtype != np.float32 or x.ndim != 4 or y.dtype != np.int64 or y.shape != (len(x),) or len(x) == 0:
        raise DataError(
            f"{folder} holds {x.dtype} {x.shape} and {y.dtype} {y.shape} where float32 (n, height, width, "
            "channels) and int64 (n,) are expected: prepare the data again"
        )
    return x, y


def _latency(runtime: Runtime, x: np.ndarray, count: int) -> float:
    examples = np.resize(x, (count, *x.shape[1:]))
    for _ in range(WARM_UP):
        runtime.predict(examples)
    times = []
    for _ in range(REPEATS[count]):
        begun = time.perf_counter()
        runtime.predict(examples)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)
