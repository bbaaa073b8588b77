"""A scikit-learn estimator as learning sees it."""

from pathlib import Path
from typing import Any

import numpy as np

from fededge.documents import Plan, Schema, Variable
from fededge.encoding import answers, encode
from fededge.errors import TaskError
from fededge.examples import blocks, floats
from fededge.learning.frameworks.sklearn import weights as tensors
from fededge.learning.frameworks.sklearn import work as works
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights


class SklearnModel:
    """The estimator that a task names; see `fededge.learning.interfaces.ModelSpec`.

    Args:
        model: the task's section.
        schema: of the examples.
        seed: of the task.

    Raises:
        TaskError: it names no estimator that learns such examples, or arguments that the estimator refuses.
    """

    def __init__(self, model: Model, schema: Schema, seed: int) -> None:
        self._model = model
        self._schema = schema
        self._seed = seed
        self._work = works.of(model, schema, ClientOptimizer())

    def initial_weights(self) -> Weights:
        """See ModelSpec."""
        return tensors.initial(self._work, self._schema, self._seed)

    def checkpoint(self, file: Path) -> Weights:
        """See ModelSpec.

        Raises:
            TaskError: always: scikit-learn's own files are pickles.
        """
        raise TaskError(
            f"model.weights {file.name}: scikit-learn keeps estimators as pickles, which may do anything when opened. "
            "Start from a registered version (models:/NAME@champion) or a safetensors file"
        )

    def predict(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """See ModelSpec. Probabilities are a softmax (multi-label: a sigmoid) of the decision function."""
        layers = tensors.layers(self._work, self._schema, weights)
        parts = (encode(self._schema, floats(np.asarray(block))) for block in blocks(x))
        return np.concatenate([answers(self._schema, tensors.outputs(layers, part)[-1]) for part in parts])

    def inference(self, weights: Weights) -> Any:
        """See ModelSpec: dense layers that equal the estimator."""
        from fededge.learning.frameworks.keras import dense

        return dense.answering(self._schema, self._dense(weights))

    def onnx(self, weights: Weights) -> bytes:
        """See ModelSpec: as `inference`."""
        from fededge.learning.frameworks import onnx_graph

        return onnx_graph.answering(onnx_graph.dense(self._schema, self._dense(weights)), self._schema)

    def _dense(self, weights: Weights) -> list[tuple[np.ndarray, np.ndarray, str]]:
        """Kernel, bias and activation of each layer."""
        layers = tensors.layers(self._work, self._schema, weights)
        return [(each.kernel, each.bias, each.activation) for each in layers]

    def export_plan(self, work: ClientOptimizer, task: str, folder: Path) -> None:
        """See ModelSpec.

        Raises:
            TaskError: the estimator cannot honor `work`.
        """
        made = works.of(self._model, self._schema, work)
        shapes = tensors.shapes(made, self._schema)
        flatten = ["Flatten"] if len(self._schema.encoded_shape) > 1 else []
        kinds = [*flatten, *(["Dense"] * sum(len(shape) == 1 for shape in shapes.values()))]
        made.write(folder / "work.json")
        Plan(
            framework="sklearn",
            task=task,
            example=self._schema,
            variables=[Variable(name=name, shape=list(shape)) for name, shape in shapes.items()],
            activations=["input", *(f"{number}/{kind}" for number, kind in enumerate(kinds, 1))],
        ).write(folder / "plan.json")
