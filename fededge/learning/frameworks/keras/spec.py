"""A Keras model as learning sees it."""

import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from fededge import examples
from fededge.documents import Schema
from fededge.errors import TaskError, VariantError, shown
from fededge.learning.frameworks.keras.network import Network
from fededge.learning.warm_start import FROZEN
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights

BATCH = 512


class KerasModel:
    """The Keras model that a task names; see `fededge.learning.interfaces.ModelSpec`.

    Args:
        model: the task's section.
        schema: of the examples.
        seed: of the task.
    """

    def __init__(self, model: Model, schema: Schema, seed: int) -> None:
        self._model = model
        self._schema = schema
        self._seed = seed

    def initial_weights(self) -> Weights:
        """See ModelSpec."""
        return Network(self._model, self._schema, self._seed).weights()

    def checkpoint(self, file: Path) -> Weights:
        """See ModelSpec: a file of `model.save` or `model.save_weights`, of which the weights alone are read."""
        network = Network(self._model, self._schema, self._seed)
        travel = {id(variable) for variable in network.variables}
        stays = [variable for variable in network.body.variables if id(variable) not in travel]
        before = [variable.numpy() for variable in stays]
        try:
            network.body.load_weights(str(file))
        except (ValueError, OSError, KeyError, TypeError, NotImplementedError) as error:
            raise TaskError(
                f"model.weights {file.name} is no Keras checkpoint (.keras, .weights.h5 or .h5) of this model: "
                f"{shown(str(error), 300)}. Give one of the same layers"
            ) from error
        if not all(np.array_equal(old, new.numpy()) for old, new in zip(before, stays, strict=True)):
            raise TaskError(FROZEN.format(file.name))
        return network.weights()

    def predict(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """See ModelSpec."""
        model = self.inference(weights)
        return np.concatenate(
            [
                model(examples.floats(x[start : start + BATCH]), training=False)
                for start in range(0, len(x), BATCH)
            ]
        )

    def inference(self, weights: Weights) -> tf.keras.Model:
        """See ModelSpec."""
        network, model = self._network
        network.assign(weights)
        return model

    def onnx(self, weights: Weights) -> bytes:
        """See ModelSpec.

        Raises:
            VariantError: always: no converter of Keras models goes with the TensorFlow that trains them.
        """
        raise VariantError("a Keras model has no ONNX variant: remove those of kind onnx-... from variants")

    def export_plan(self, work: ClientOptimizer, task: str, folder: Path) -> None:
        """See ModelSpec."""
        from fededge.learning.tff import plan

        plan.export(self._model, self._schema, self._seed, work, task, folder)

    def add_litert(self, work: ClientOptimizer, folder: Path) -> None:
        """Add to the plan in `folder` what clients on LiteRT execute, or why the model does not allow it."""
        from fededge.learning.tff import plan

        plan.add_litert(self._model, self._schema, self._seed, work, folder)

    def litert_refusal(self, work: ClientOptimizer) -> str | None:
        """Why clients on LiteRT cannot train the model, as far as its operations tell."""
        from fededge.learning.tff import plan

        return plan.litert_refusal(self._model, self._schema, self._seed, work)

    @functools.cached_property
    def _network(self) -> tuple[Network, tf.keras.Model]:
        network = Network(self._model, self._schema, self._seed)
        return network, network.inference()
