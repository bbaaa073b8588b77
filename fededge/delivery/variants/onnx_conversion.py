"""Variants of a model for ONNX Runtime.

| kind | weights | activations | input and output |
|---|---|---|---|
| onnx-float32 | float32 | float32 | float32 |
| onnx-dynamic-int8 | 8 bits | float32, quantized while running before a layer with weights of 8 bits | float32 |

Weights of 8 bits are unsigned: ONNX Runtime has no fast convolution of unsigned activations with signed weights.
"""

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from fededge.errors import VariantError, shown
from fededge.kinds import MODEL_LIMIT

QUANTIZED = "onnx-dynamic-int8"


def build(model: bytes, kind: str) -> bytes:
    """`model`, a float32 ONNX file, as a variant of `kind`; what its metadata tell stays.

    Raises:
        VariantError: it cannot be quantized, or is too large.
    """
    built = _quantized(model) if kind == QUANTIZED else model
    if len(built) > MODEL_LIMIT:
        raise VariantError(
            f"the {kind} variant has {len(built):,} bytes, more than {MODEL_LIMIT:,}: make the model smaller"
        )
    return built


def _quantized(model: bytes) -> bytes:
    """As Jacob et al. 2018 (see `conversion`), section 2, with the range of each activation found as it runs."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises to optimize first, for a certain runtime and machine
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "quantized"
            quantize_dynamic(onnx.load_model_from_string(model), file, weight_type=QuantType.QUInt8)
            return file.read_bytes()
    except Exception as error:  # the quantizer's errors have no class in common
        raise VariantError(
            f"cannot quantize the model to {QUANTIZED}: {shown(str(error), 300)}. Remove this kind from variants"
        ) from error
    finally:
        logger.setLevel(level)
