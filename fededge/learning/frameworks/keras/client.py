"""A client that executes an exported plan on its own folder with plain TensorFlow."""

import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from fededge import storage
from fededge.errors import DataError, DivergedError
from fededge.learning.data import folders
from fededge.learning.update import Update
from fededge.weights import Weights

COUNTS = ("examples", "correct", "loss_sum")


class KerasClient:
    """The plan in `plan`, bound to the client folder `data` (with train/ and test/)."""

    def __init__(self, plan: Path, data: Path) -> None:
        if not (plan / "plan.json").is_file():
            raise DataError(f"no plan at {plan}: run initialize_model again")
        self._plan = tf.saved_model.load(str(plan))
        variables = json.loads(storage.read(str(plan / "plan.json"), 1 << 20))["variables"]
        self._names = [variable["name"] for variable in variables]
        self._data = data
        folders.read(data / "train")

    def train(self, weights: Weights, seed: int) -> Update:
        """One round's work on train/ from the global `weights`, every random choice drawn from `seed`.

        Raises:
            DivergedError: the weights left the finite numbers; TFF's client work then reports no examples.
        """
        result = self._plan.train(
            self._ordered(weights), str(self._data / "train"), tf.constant(seed, tf.int64)
        )
        if not float(result["examples"]):
            raise DivergedError(
                "local training diverged to NaN or infinity: lower learning.client.learning_rate"
            )
        delta = {name: value.numpy() for name, value in zip(self._names, result["delta"], strict=True)}
        return Update(delta, *(float(result[key]) for key in COUNTS))

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """Counts of `weights` on test/: examples, correct, loss_sum."""
        folders.read(self._data / "test")
        result = self._plan.evaluate(self._ordered(weights), str(self._data / "test"))
        return {key: float(result[key]) for key in COUNTS}

    def _ordered(self, weights: Weights) -> list[tf.Tensor]:
        return [tf.constant(np.asarray(weights[name])) for name in self._names]
