"""A Keras model as learning sees it."""

from pathlib import Path

import numpy as np

from fededge.learning.frameworks.keras import models
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights

BATCH = 512


class KerasModel:
    """The Keras model that a task names; see `fededge.learning.interfaces.ModelSpec`.

    Args:
        model: the task's section.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def initial_weights(self, seed: int) -> Weights:
        """See ModelSpec."""
        return models.initial_weights(self._model, seed)

    def predict(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """See ModelSpec."""
        model = models.inference_model(self._model, weights)
        return np.concatenate([model(x[i : i + BATCH], training=False) for i in range(0, len(x), BATCH)])

    def export_plan(self, work: ClientOptimizer, task: str, folder: Path) -> None:
        """See ModelSpec."""
        from fededge.learning.tff import plan

        plan.export(self._model, work, task, folder)
