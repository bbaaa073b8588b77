"""Running a model for inference: a neutral `LoadedModel`, and LiteRT and ONNX Runtime behind it.

The endpoint, the measurement of variants and the agent on a device all answer through `LoadedModel`,
so a model gives the same outputs wherever it runs.

A damaged model file may load silently, or crash the process: check its digest first
(`storage.read_verified`).
"""

import abc
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fededge import model_files
from fededge.errors import DataError, VariantError, shown
from fededge.kinds import MODEL_LIMIT, runtime_of

if TYPE_CHECKING:  # importing documents takes longer than a function has to start
    from fededge.documents import Schema

BATCH = 50  # examples at once: more are no faster, and activations of 50 stay small
SILENT = 4  # of ONNX Runtime's log, which would repeat what its exceptions say


class LoadedModel(Protocol):
    """A loaded model that answers float32 examples with float32 outputs. Safe to call from several threads."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch dimension, such as (28, 28, 1)."""

    @property
    def classes(self) -> int:
        """Number of outputs for one example."""

    @property
    def schema(self) -> "Schema | None":
        """Of its examples, as its file tells; None where it tells nothing.

        Raises:
            VariantError: what stands there is no schema.
        """

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


def load_model(data: bytes, kind: str = "float32", threads: int = 1) -> LoadedModel:
    """The model in `data`, ready to answer.

    Args:
        data: model file, its digest already verified.
        kind: of variant, which says what executes it.
        threads: CPU threads for one call of `predict`, at least 1.

    Raises:
        VariantError: not a model with one float32 input and one float32 [n, classes] output, one of more than
            MODEL_LIMIT bytes, or its runtime is not installed.
    """
    if len(data) > MODEL_LIMIT:
        raise VariantError(f"a model of {len(data):,} bytes is larger than {MODEL_LIMIT:,}: make it smaller")
    return OnnxModel(data, threads) if runtime_of(kind) == "onnx" else LiteRTModel(data, threads)


class _Model(abc.ABC):
    """What the runtimes share: examples are checked and answered in batches; threads take turns."""

    def __init__(self, shape: tuple[int, ...], classes: int, step: int) -> None:
        self._turn = threading.Lock()
        self._shape, self._classes, self._step = shape, classes, step

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
            for start in range(0, len(x), self._step):
                outputs[start : start + self._step] = self._run(x[start : start + self._step])
        return outputs

    @abc.abstractmethod
    def _run(self, x: np.ndarray) -> np.ndarray:
        """Outputs for at most `step` examples."""


class LiteRTModel(_Model):
    """A LiteRT (TensorFlow Lite) model.

    Raises:
        VariantError: `data` is not such a model.
    """

    def __init__(self, data: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._data = data  # the interpreter reads weights from this buffer as it runs
        try:
            self._interpreter = Interpreter(model_content=self._data, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _unusable("a LiteRT", data, error) from error
        source = _only_tensor(self._interpreter.get_input_details(), "input")
        target = _only_tensor(self._interpreter.get_output_details(), "output")
        if len(target["shape"]) != 2:
            raise VariantError(
                f"the model's output has shape {target['shape'].tolist()} where (n, classes) is needed"
            )
        self._input: int = source["index"]
        self._output: int = target["index"]
        self._fixed = bool(source["shape_signature"][0] != -1)
        self._batch = int(source["shape"][0])
        shape = tuple(int(size) for size in source["shape"][1:])
        super().__init__(shape, int(target["shape"][-1]), self._batch if self._fixed else BATCH)

    @property
    def schema(self) -> "Schema | None":
        """Of its examples; see `LoadedModel.schema`."""
        return model_files.schema_of(self._data)

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
            raise _failed(error) from error
        found: np.ndarray = self._interpreter.get_tensor(self._output)[:count]
        return found


class OnnxModel(_Model):
    """An ONNX model, run by ONNX Runtime on the processor.

    All of it is in its file: one whose weights lie in other files is refused, and one with operators that ONNX
    Runtime does not bring along.

    Raises:
        VariantError: `data` is not such a model, or ONNX Runtime is not installed.
    """

    def __init__(self, data: bytes, threads: int = 1) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = (
            "1"  # versions from 1.29 on report their use to Microsoft by default
        )
        try:
            import onnxruntime
        except ImportError as error:
            raise VariantError(
                "an ONNX variant needs ONNX Runtime, which is not installed here: pip install 'onnxruntime<1.29'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = SILENT
        # Where files of weights are looked for: a place that holds none.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's have no class of their own in common
            raise _unusable("an ONNX", data, error) from error
        source = _only_value(self._session.get_inputs(), "input")
        target = _only_value(self._session.get_outputs(), "output")
        shape, outputs = source.shape[1:], target.shape[1:]
        if isinstance(source.shape[0], int) or not all(isinstance(size, int) for size in (*shape, *outputs)):
            raise VariantError(
                f"the model takes {source.shape} and gives {target.shape}, where the number of examples alone is to be "
                "free: export it anew"
            )
        if len(outputs) != 1:
            raise VariantError(f"the model's output has shape {target.shape} where (n, classes) is needed")
        self._input, self._output = source.name, target.name
        super().__init__(tuple(shape), outputs[0], BATCH)

    @property
    def schema(self) -> "Schema | None":
        """Of its examples; see `LoadedModel.schema`."""
        content = self._session.get_modelmeta().custom_metadata_map.get(model_files.KEY)
        return None if content is None else model_files.parsed(content.encode())

    def _run(self, x: np.ndarray) -> np.ndarray:
        try:
            (found,) = self._session.run([self._output], {self._input: x})
        except Exception as error:  # as above
            raise _failed(error) from error
        if found.shape != (len(x), self._classes):
            raise _failed(f"outputs of shape {list(found.shape)} for {len(x)} examples")
        answers: np.ndarray = found
        return answers


def _unusable(what: str, data: bytes, error: Exception) -> VariantError:
    return VariantError(
        f"cannot load {what} model of {len(data):,} bytes: {_line(error)}. Build the variant again"
    )


def _failed(why: object) -> VariantError:
    return VariantError(
        f"the model fails on these examples ({_line(why)}): give examples like those it was trained on"
    )


def _line(text: object) -> str:
    return shown(" ".join(str(text).split()).rstrip("."), 200)


def _only_tensor(places: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The one input or output of a LiteRT model."""
    if len(places) != 1 or places[0]["dtype"] != np.float32 or len(places[0]["shape"]) < 2:
        raise _not_one(name, [f"{place['dtype'].__name__} {place['shape'].tolist()}" for place in places])
    return places[0]


def _only_value(places: list[Any], name: str) -> Any:
    """The one input or output of an ONNX model."""
    if len(places) != 1 or places[0].type != "tensor(float)" or len(places[0].shape) < 2:
        raise _not_one(name, [f"{place.type} {place.shape}" for place in places])
    return places[0]


def _not_one(name: str, found: list[str]) -> VariantError:
    return VariantError(
        f"the model's {name} is {'; '.join(found)} where one float32 batch is needed: "
        "convert it with one float32 input and output"
    )
