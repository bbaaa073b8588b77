"""A PyTorch module as the body of an ONNX model, by PyTorch's own exporter.

It is the exporter of TorchScript, which traces the module as it answers one batch. The newer one, of torch.export, needs
a version of ml-dtypes that TensorFlow 2.14 does not go with. A trace knows nothing of branches that were not taken, so
what comes out is held against the module on other batches.
"""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from fededge.documents import Schema
from fededge.errors import VariantError, shown
from fededge.learning.frameworks.onnx_graph import ENCODED, OPSET, RAW

TRACED = 2
"""Examples in the batch that is traced."""
TRIED = (1, 3)
"""Examples in the batches that the exported module is tried on."""


def body(module: torch.nn.Module, schema: Schema) -> onnx.ModelProto:
    """`module` as ONNX: encoded examples [n, *schema.encoded_shape] to its raw outputs.

    Raises:
        VariantError: PyTorch cannot export it, or it answers other batches in another way.
    """
    module.eval()
    try:
        exported = _exported(module, torch.zeros((TRACED, *schema.encoded_shape)))
        same = all(_agree(module, exported, count, schema) for count in TRIED)
    except (
        Exception
    ) as error:  # the user's module may do anything, and each of the libraries has errors of its own
        why = shown(" ".join(str(error).split()), 160)
        raise VariantError(f"PyTorch cannot export the model, so it has no ONNX variant: {why}") from error
    if not same:
        raise VariantError(
            "the model as PyTorch exports it answers other batches than the traced one in another way, so it has no ONNX "
            "variant: use no control flow and no numbers that depend on the examples or on how many they are"
        )
    return onnx.load_model_from_string(exported)


def _exported(module: torch.nn.Module, given: torch.Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / "exported"
        torch.onnx.export(
            module,
            (given,),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[ENCODED],
            output_names=[RAW],
            dynamic_axes={ENCODED: {0: "n"}, RAW: {0: "n"}},
        )
        return file.read_bytes()


def _agree(module: torch.nn.Module, exported: bytes, count: int, schema: Schema) -> bool:
    """Whether both answer alike to `count` examples of numbers from 0 to 1, which tokens may be as well."""
    x = np.random.default_rng(count).random((count, *schema.encoded_shape), np.float32)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (found,) = session.run([RAW], {ENCODED: x})
    with torch.inference_mode():
        wanted = module(torch.from_numpy(x)).numpy()
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-3, atol=1e-4, equal_nan=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide that there is a newer exporter, and what C++ writes to descriptor 1 of a trace that it cannot export.

    A failed export is told by its exception, and what may be wrong with a trace is tried.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    with warnings.catch_warnings(), open(os.devnull, "wb") as nothing:
        warnings.simplefilter("ignore")
        os.dup2(nothing.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)
