"""What a variant costs and what it is worth: size, score and latency in LiteRT."""

import gzip
import statistics
import time

import numpy as np

from fededge import storage
from fededge.documents import Measurement
from fededge.errors import VariantError
from fededge.inference import LoadedModel, load_model

REPEATS = {1: 200, 500: 11}
WARM_UP = 3
BATCH = 500


def measure(model: bytes, kind: str, x: np.ndarray, y: np.ndarray, reference: float) -> Measurement:
    """Measure a variant on one thread of this machine.

    Args:
        model: LiteRT file.
        kind: of variant.
        x: float32 [n, height, width, channels] held-out examples.
        y: int64 [n] labels.
        reference: score of the model that the variant was built from, on the same examples.

    Returns:
        The measurement, not judged yet; a latency is the median of repeats after a warm-up.

    Raises:
        VariantError: the variant gives values that are not finite or not one row for each example.
    """
    runtime = load_model(model, kind="litert", threads=1)
    predicted = [runtime.predict(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    scores = np.concatenate(predicted)
    if scores.ndim != 2 or len(scores) != len(y) or not np.isfinite(scores).all():
        raise VariantError(
            f"variant {kind} answers {len(y)} examples with {scores.shape}, or with values that are not "
            "finite: build it again"
        )
    score = float(np.mean(scores.argmax(axis=1) == y))
    return Measurement(
        kind=kind,
        digest=storage.digest(model),
        bytes=len(model),
        compressed_bytes=len(gzip.compress(model, mtime=0)),
        metric="accuracy",
        score=score,
        score_loss=reference - score,
        shape=list(x.shape[1:]),
        classes=scores.shape[1],
        latency_ms_1=_latency(runtime, x, 1),
        latency_ms_500=_latency(runtime, x, 500),
    )


def _latency(runtime: LoadedModel, x: np.ndarray, count: int) -> float:
    examples = np.resize(x, (count, *x.shape[1:]))
    for _ in range(WARM_UP):
        runtime.predict(examples)
    times = []
    for _ in range(REPEATS[count]):
        begun = time.perf_counter()
        runtime.predict(examples)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)
