"""Variants of a model for LiteRT: float32, float16, dynamic int8 and full int8.

| kind | weights | activations | input and output |
|---|---|---|---|
| float32 | float32 | float32 | float32 |
| float16 | float16 | float32 | float32 |
| dynamic-int8 | int8 | float32, quantized while running where the kernel gains by it | float32 |
| int8 | int8 | int8, ranges measured by clients | float32 |

int8 is the post-training scheme of Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam and Kalenichenko 2018,
Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 2. The
ranges of its activations are no statistics of examples in one place: clients measure them on their own
examples, and a merged low and high end of each tensor is all that comes here (`fededge.learning.calibration`).
They enter the model as fake quantization (section 3 there), which the converter turns into int8.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError

from fededge.documents import CalibrationRanges
from fededge.errors import DataError, VariantError
from fededge.kinds import kinds_of

KINDS = kinds_of("litert")
CALIBRATED = "int8"
"""The kind that needs calibration ranges."""
NARROWEST = 1e-6
"""Width of the narrowest range that can be quantized."""


def build(model: tf.keras.Model, kind: str, ranges: CalibrationRanges | None = None) -> bytes:
    """`model` converted to a LiteRT file of `kind`.

    Args:
        model: float32 [b, ...] to float32 [b, outputs]. For int8 it is a line of an encoding, a graph of layers
            (the model's second last layer, itself a model) and the meaning of its outputs.
        kind: one of KINDS.
        ranges: of what that graph is given and of each of its layers' outputs; needed for int8 only.

    Raises:
        DataError: the ranges are those of another model.
        VariantError: an unknown kind, int8 without ranges, a model that the converter refuses, or a result
            that takes only one example at a time.
    """
    if kind not in KINDS:
        raise VariantError(f"unknown variant kind {kind!r}: use {', '.join(KINDS)}")
    if kind == CALIBRATED and ranges is None:
        raise VariantError(
            f"no ranges were measured for {kind}: the model is no graph of layers with float32 outputs, each used once. "
            "Remove this kind from the task's variants"
        )
    converter = tf.lite.TFLiteConverter.from_keras_model(
        _with_ranges(model, ranges) if kind == CALIBRATED and ranges else model
    )
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    try:
        with _quiet():
            built: bytes = converter.convert()
    except (ValueError, RuntimeError, TypeError, tf.errors.OpError, ConverterError) as error:
        raise VariantError(
            f"cannot convert the model to {kind}: {' '.join(str(error).split())[:300]}. "
            "Remove this kind from the task's variants"
        ) from error
    _check_signature(built, kind)
    return built


class _Ranged(tf.keras.layers.Wrapper):
    """A layer whose output is quantized to 8 bits within a range."""

    def __init__(self, layer: tf.keras.layers.Layer, low: float, high: float) -> None:
        super().__init__(layer, name=layer.name)
        self._range = {"min": low, "max": high}

    def call(self, *inputs: Any, **options: Any) -> tf.Tensor:
        """The layer's output."""
        return tf.quantization.fake_quant_with_min_max_args(self.layer(*inputs, **options), **self._range)


def _with_ranges(model: tf.keras.Model, ranges: CalibrationRanges) -> tf.keras.Model:
    """`model` with what its graph is given and each layer's output quantized within `ranges`; of the same weights."""
    _, encode, body, finish = model.layers
    found = {r.name: (min(r.low, 0.0), max(r.high, 0.0, NARROWEST)) for r in ranges.ranges}
    layers = [layer for layer in body.layers if not isinstance(layer, tf.keras.layers.InputLayer)]
    names = [f"{number}/{type(layer).__name__}" for number, layer in enumerate(layers, 1)]
    if sorted(found) != sorted(["input", *names]):
        raise DataError(
            f"calibration ranges of {sorted(found)} where the model has input, {', '.join(names)}: run "
            "evaluate_model again (`fededge run --fresh`)"
        )

    def ranged(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        (name,) = (name for name, each in zip(names, layers, strict=True) if each is layer)
        return _Ranged(layer.__class__.from_config(layer.get_config()), *found[name])

    inside = tf.keras.models.clone_model(body, clone_function=ranged)
    inside.set_weights(body.get_weights())
    examples = tf.keras.Input(model.input_shape[1:], name="examples")
    low, high = found["input"]
    quantized = tf.keras.layers.Lambda(
        lambda x: tf.quantization.fake_quant_with_min_max_args(x, min=low, max=high)
    )
    return tf.keras.Model(examples, finish(inside(quantized(encode(examples)))))


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
