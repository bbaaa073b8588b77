"""A client that executes an exported plan on its own folder with plain TensorFlow."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from fededge import examples
from fededge.errors import DivergedError
from fededge.learning.interfaces import Ranges
from fededge.learning.update import Update
from fededge.weights import Weights

COUNTS = ("examples", "correct", "loss_sum")
LOW, HIGH = 0.01, 0.99


class KerasClient:
    """The plan in `plan`, bound to the client folder `data` (with train/ and test/).

    Args:
        plan: folder of the exported plan.
        data: the client's own folder.
        names: of the model's variables, in the plan's order.
    """

    def __init__(self, plan: Path, data: Path, names: Sequence[str]) -> None:
        self._plan = _loaded(str(plan.resolve()))
        self._names = names
        self._data = data
        examples.read(data / "train")

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
        examples.read(self._data / "test")
        result = self._plan.evaluate(self._ordered(weights), str(self._data / "test"))
        return {key: float(result[key]) for key in COUNTS}

    def ranges(self, weights: Weights) -> Ranges:
        """Low and high quantile over train/ of each tensor's smallest and largest value in an example."""
        result = self._plan.extremes(self._ordered(weights), str(self._data / "train"))
        smallest, largest = result["smallest"].numpy(), result["largest"].numpy()
        return Ranges(
            examples=len(smallest),
            low=np.quantile(smallest, LOW, axis=0).tolist(),
            high=np.quantile(largest, HIGH, axis=0).tolist(),
        )

    def _ordered(self, weights: Weights) -> list[tf.Tensor]:
        return [tf.constant(np.asarray(weights[name])) for name in self._names]


@functools.lru_cache(maxsize=1)
def _loaded(plan: str) -> Any:
    """The plan's program, loaded once for all clients of this process that execute it."""
    return tf.saved_model.load(plan)
