"""Variants of a model for LiteRT: float32, float16, dynamic int8 and full int8.

| kind | weights | activations | input and output |
|---|---|---|---|
| float32 | float32 | float32 | float32 |
| float16 | float16 | float32 | float32 |
| dynamic-int8 | int8 | float32, quantized while running where the kernel gains by it | float32 |
| int8 | int8 | int8, ranges from representative samples | float32 |

int8 is the post-training scheme of Jacob et al. 2018, "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference". Its representative samples are drawn from what the
training clients say about their own data: mean, deviation and range of each pixel. Neither a
client's examples nor the held-out examples are read.

Noise that is independent from pixel to pixel calibrates a convolutional network badly: its filters
average such noise away, so the ranges come out too small and real strokes saturate. The samples
therefore deviate from the mean in smooth fields of several coarsenesses.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from fededge import storage, weights
from fededge.errors import DataError, VariantError

SAMPLES = 256
GRIDS = (4, 7, 14, 28)  # nodes a side of the smooth fields, coarse to fine
SPREAD = 2.0  # standard deviations at a node
STATISTICS = ("mean", "std", "min", "max")


def build(model: tf.keras.Model, kind: str, samples: np.ndarray) -> bytes:
    """`model` converted to a LiteRT file of `kind`.

    Args:
        model: Keras model, float32 [b, ...] to float32 [b, classes].
        kind: float32, float16, dynamic-int8 or int8.
        samples: float32 [n, ...] representative inputs; read for int8 only.

    Raises:
        VariantError: an unknown kind, a model that the converter refuses, or a result that takes
            only one example at a time.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif kind == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    elif kind not in ("float32", "dynamic-int8"):
        raise VariantError(f"unknown variant kind {kind!r}: use float32, float16, dynamic-int8 or int8")
    try:
        with _quiet():
            built: bytes = converter.convert()
    except (ValueError, RuntimeError, TypeError, tf.errors.OpError) as error:
        raise VariantError(
            f"cannot convert the model to {kind}: {' '.join(str(error).split())[:300]}. "
            "Remove this kind from the task's variants"
        ) from error
    _check_signature(built, kind)
    return built


def representative_samples(data: Path, seed: int, count: int = SAMPLES) -> np.ndarray:
    """Inputs as the training clients see them, drawn from their summaries.

    Clients take turns. A sample is `mean + SPREAD * z * std` of one client, clipped to that client's
    range; z is normal at the nodes of a grid and bilinear between them. The same folder and seed
    give the same samples.

    Args:
        data: the data artifact, with clients/<id>/summary.safetensors.
        seed: the task's seed.
        count: number of samples.

    Returns:
        float32 [count, height, width, channels].

    Raises:
        DataError: no client, or a summary that is malformed.
    """
    summaries = [_summary(file) for file in sorted(data.glob("clients/*/summary.safetensors"))]
    if not summaries:
        raise DataError(f"no clients/<id>/summary.safetensors in {data}: run prepare_data again")
    random = np.random.default_rng([seed, SAMPLES])
    drawn = []
    for index in range(count):
        turn, client = divmod(index, len(summaries))
        mean, std, low, high = summaries[client]
        height, width, channels = mean.shape
        grid = GRIDS[turn % len(GRIDS)]
        nodes = random.standard_normal((grid, grid, channels), dtype=np.float32)
        field = tf.image.resize(nodes, (height, width)).numpy()
        drawn.append(np.clip(mean + SPREAD * field * std, low, high))
    return np.stack(drawn).astype(np.float32)


def _summary(file: Path) -> list[np.ndarray]:
    tensors = weights.from_bytes(storage.read(str(file), limit=1 << 28))
    found = weights.shapes(tensors)
    if sorted(found) != sorted(STATISTICS) or len({*found.values()}) != 1 or len(found["mean"]) != 3:
        raise DataError(
            f"{file} must hold {', '.join(STATISTICS)}, each (height, width, channels), not {found}: "
            "prepare that client's data again"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise DataError(f"{file} holds values that are not finite: check that client's data")
    return [tensors[name] for name in STATISTICS]


def _check_signature(built: bytes, kind: str) -> None:
    interpreter = tf.lite.Interpreter(model_content=built)
    for place in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        if place["dtype"] != np.float32 or place["shape_signature"][0] != -1:
            raise VariantError(
                f"the {kind} variant's {place['name']} is {place['dtype'].__name__} "
                f"{place['shape_signature'].tolist()} where float32 with a free batch dimension is needed: "
                "build the model with an input of shape (None, ...)"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the converter's chatter, from Python's loggers and from C++ on descriptor 2.

    A failed conversion is told by its exception.
    """
    logger = logging.getLogger("tensorflow")
    level = logger.level
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        logger.setLevel(logging.ERROR)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            logger.setLevel(level)
