"""A PyTorch module as learning sees it."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from fededge.documents import Plan, Schema
from fededge.encoding import answers, encode
from fededge.errors import VariantError
from fededge.examples import blocks, floats
from fededge.learning import bundles
from fededge.learning.frameworks.torch import losses
from fededge.learning.frameworks.torch.network import Network
from fededge.learning.frameworks.torch.work import Work
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights


class TorchModel:
    """The module that a task's factory makes; see `fededge.learning.interfaces.ModelSpec`.

    Args:
        model: the task's section.
        schema: of the examples.
        seed: of the task.

    Raises:
        TaskError: there is no such module, or it does not fit the examples.
    """

    def __init__(self, model: Model, schema: Schema, seed: int) -> None:
        self._model = model
        self._schema = schema
        self._seed = seed
        losses.loss_of(model, schema)

    def initial_weights(self) -> Weights:
        """See ModelSpec."""
        return Network(self._model, self._schema, self._seed).weights()

    def checkpoint(self, file: Path) -> Weights:
        """See ModelSpec: a file of `torch.save` with a state dictionary, of which tensors alone are read."""
        return self._network.checkpoint(file)

    def predict(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """See ModelSpec."""
        self._network.begin(weights)
        parts = (encode(self._schema, floats(np.asarray(block))) for block in blocks(x))
        return np.concatenate([answers(self._schema, self._network.raw(part)) for part in parts])

    def inference(self, weights: Weights) -> Any:
        """See ModelSpec.

        Raises:
            VariantError: the module is no line of layers that Keras has as well.
        """
        from fededge.learning.frameworks.keras.network import answering
        from fededge.learning.frameworks.torch import keras_form

        self._network.begin(weights)
        return answering(keras_form.body(self._network.module, self._schema), self._schema)

    def onnx(self, weights: Weights) -> bytes:
        """See ModelSpec.

        Raises:
            VariantError: PyTorch cannot export the module.
        """
        from fededge.learning.frameworks import onnx_graph
        from fededge.learning.frameworks.torch import onnx_form

        self._network.begin(weights)
        return onnx_graph.answering(onnx_form.body(self._network.module, self._schema), self._schema)

    def export_plan(self, work: ClientOptimizer, task: str, folder: Path) -> None:
        """See ModelSpec."""
        model = self._model
        if model.code and bundles.PACKED.fullmatch(model.code):
            bundles.copy(model.code, str(folder))
        Work(model=model, seed=self._seed, client=work).write(folder / "work.json")
        Plan(
            framework="torch",
            task=task,
            example=self._schema,
            variables=self._network.described,
            activations=self._activations(),
        ).write(folder / "plan.json")

    def _activations(self) -> list[str]:
        from fededge.learning.frameworks.keras.network import activations

        try:
            layers = activations(self.inference(self.initial_weights()).layers[-2])
        except VariantError:
            return []
        return ["input", *layers] if layers else []

    @functools.cached_property
    def _network(self) -> Network:
        return Network(self._model, self._schema, self._seed)
