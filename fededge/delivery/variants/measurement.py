"""What a variant costs and what it is worth: size, score and latency in its runtime."""

import gzip
import statistics
import time

import numpy as np

from fededge import counting, storage
from fededge.counting import unnamed
from fededge.documents import Measurement, Schema
from fededge.errors import VariantError
from fededge.examples import floats
from fededge.inference import LoadedModel, load_model
from fededge.metrics import METRIC

REPEATS = {1: 200, 500: 11}
WARM_UP = 3
BATCH = 500


def measure(
    model: bytes, kind: str, x: np.ndarray, y: np.ndarray, reference: float, schema: Schema | None = None
) -> Measurement:
    """Measure a variant on one thread of this machine.

    Args:
        model: its file.
        kind: of variant.
        x: held-out examples as stored, float32 or uint8 [n, ...].
        y: their labels.
        reference: score of the model that the variant was built from, on the same examples.
        schema: of the examples; None: each is of one of as many classes as there are outputs.

    Returns:
        The measurement, not judged yet; a latency is the median of repeats after a warm-up.

    Raises:
        VariantError: the variant gives values that are not finite or not one row for each example.
    """
    runtime = load_model(model, kind, threads=1)
    x = floats(x)
    outputs = np.concatenate([runtime.predict(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])
    schema = schema or unnamed(x.shape[1:], runtime.classes)
    if outputs.shape != (len(y), schema.outputs) or not np.isfinite(outputs).all():
        raise VariantError(
            f"variant {kind} answers {len(y)} examples with {outputs.shape} where {schema.outputs} outputs each are "
            "expected, or with values that are not finite: build it again"
        )
    score = counting.score(schema, outputs, x, y)
    return Measurement(
        kind=kind,
        digest=storage.digest(model),
        bytes=len(model),
        compressed_bytes=len(gzip.compress(model, mtime=0)),
        metric=METRIC[schema.label.kind],
        score=score,
        score_loss=reference - score,
        shape=list(x.shape[1:]),
        classes=runtime.classes,
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
