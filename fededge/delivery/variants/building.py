"""All variants of a trained model, each converted from the form that its runtime needs."""

import functools
from collections.abc import Sequence
from typing import Any, Protocol

from fededge import model_files
from fededge.delivery.variants import conversion, onnx_conversion
from fededge.documents import CalibrationRanges, Schema
from fededge.errors import VariantError
from fededge.kinds import runtime_of
from fededge.weights import Weights


class Convertible(Protocol):
    """A model that can be brought into the forms that variants are built from."""

    def inference(self, weights: Weights) -> Any:
        """The model that answers, as a tf.keras.Model."""

    def onnx(self, weights: Weights) -> bytes:
        """The model that answers, as an ONNX file of float32 that holds its schema."""


def build(
    model: Convertible,
    weights: Weights,
    schema: Schema,
    kinds: Sequence[str],
    ranges: CalibrationRanges | None = None,
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files of those `kinds` that can be made, and why the others cannot.

    Args:
        model: what was learned.
        weights: of it.
        schema: of the examples; kept in each file.
        kinds: of variants.
        ranges: of its activations, for int8.

    Raises:
        VariantError: none can be made.
    """
    made: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    in_keras = functools.cache(lambda: model.inference(weights))
    in_onnx = functools.cache(lambda: model.onnx(weights))
    for kind in kinds:
        try:
            if runtime_of(kind) == "onnx":
                made[kind] = onnx_conversion.build(in_onnx(), kind)
            else:
                made[kind] = model_files.with_schema(conversion.build(in_keras(), kind, ranges), schema)
        except VariantError as error:
            refused[kind] = str(error)
    if not made:
        raise VariantError(f"no variant can be built: {'; '.join(dict.fromkeys(refused.values()))}")
    return made, refused
