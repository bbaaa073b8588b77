"""Running a model for inference: a neutral `LoadedModel`, and LiteRT behind it.

The endpoint, the measurement of variants and the agent on a device all answer through `LoadedModel`,
so a model gives the same outputs wherever it runs.

A damaged model file may load silently, or crash the process: check its digest first
(`storage.read_verified`).
"""

import threading
from typing import Any, Protocol

import numpy as np

from fededge.errors import DataError, VariantError

BATCH = 50  # examples at once: more are no faster, and activations of 50 stay small


class LoadedModel(Protocol):
    """A loaded model that answers float32 examples with float32 outputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch dimension, such as (28, 28, 1)."""

    @property
    def classes(self) -> int:
        """Number of outputs for one example."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Outputs for a batch.

        Args:
            x: float32 [n, *input_shape]; n may be 0.

        Returns:
            float32 [n, classes], owned by the caller.

        Raises:
            DataError: `x` has another dtype or shape.
            VariantError: the model fails on these examples.
        """


def load_model(data: bytes, kind: str = "litert", threads: int = 1) -> LoadedModel:
    """The model in `data`, ready to answer.

    Args:
        data: model file, its digest already verified.
        kind: runtime that the file is made for: `litert`.
        threads: CPU threads for one call of `predict`, at least 1.

    Raises:
        VariantError: unknown kind, or not a model with one float32 input and one float32 [n, classes]
            output.
    """
    if kind != "litert":
        raise VariantError(f"unknown runtime {kind!r}: use litert")
    return LiteRTRuntime(data, threads)


class LiteRTRuntime:
    """A LiteRT (TensorFlow Lite) model. Safe to call from several threads, which take turns.

    Raises:
        VariantError: `data` is not such a model.
    """

    def __init__(self, data: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._turn = threading.Lock()
        self._data = data  # the interpreter reads weights from this buffer as it runs
        try:
            self._interpreter = Interpreter(model_content=self._data, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise VariantError(
                f"cannot load a LiteRT model of {len(data):,} bytes: {' '.join(str(error).split())[:200]}. "
                "Build the variant again"
            ) from error
        source = _only(self._interpreter.get_input_details(), "input")
        target = _only(self._interpreter.get_output_details(), "output")
        if len(target["shape"]) != 2:
            raise VariantError(
                f"the model's output has shape {target['shape'].tolist()} where (n, classes) is needed"
            )
        self._input: int = source["index"]
        self._output: int = target["index"]
        self._shape = tuple(int(size) for size in source["shape"][1:])
        self._classes = int(target["shape"][-1])
        self._fixed = bool(source["shape_signature"][0] != -1)
        self._batch = int(source["shape"][0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch dimension."""
        return self._shape

    @property
    def classes(self) -> int:
        """Number of outputs for one example."""
        return self._classes

    def predict(self, x: np.ndarray) -> np.ndarray:
        """float32 [n, classes] for float32 `x` [n, *input_shape]; see `LoadedModel.predict`."""
        if x.dtype != np.float32 or x.shape[1:] != self._shape or x.ndim == 0:
            raise DataError(
                f"the model takes float32 [n, {', '.join(map(str, self._shape))}], "
                f"not {x.dtype} {list(x.shape)}"
            )
        outputs = np.empty((len(x), self._classes), np.float32)
        with self._turn:
            step = self._batch if self._fixed else BATCH
            for start in range(0, len(x), step):
                outputs[start : start + step] = self._run(x[start : start + step])
        return outputs

    def _run(self, x: np.ndarray) -> np.ndarray:
        count = len(x)
        if self._fixed:
            padding = [(0, self._batch - count)] + [(0, 0)] * len(self._shape)
            x = np.pad(x, padding) if count < self._batch else x
        elif count != self._batch:
            self._interpreter.resize_tensor_input(self._input, x.shape)
            self._interpreter.allocate_tensors()
            self._batch = count
        self._interpreter.set_tensor(self._input, x)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise VariantError(
                f"the model fails on these examples ({' '.join(str(error).split())[:200]}): give examples like those "
                "it was trained on"
            ) from error
        found: np.ndarray = self._interpreter.get_tensor(self._output)[:count]
        return found


def _only(places: list[dict[str, Any]], name: str) -> dict[str, Any]:
    if len(places) != 1 or places[0]["dtype"] != np.float32 or len(places[0]["shape"]) < 2:
        found = [f"{place['dtype'].__name__} {place['shape'].tolist()}" for place in places]
        raise VariantError(
            f"the model's {name} is {'; '.join(found)} where one float32 batch is needed: "
            "convert it with one float32 input and output"
        )
    return places[0]
