"""A client that executes an exported plan on its own folder with plain TensorFlow."""

import functools
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from fededge import examples, metrics
from fededge.clients import Ranges
from fededge.documents import Plan
from fededge.errors import DivergedError, TaskError, VariantError
from fededge.learning.calibration import measured
from fededge.update import Update
from fededge.weights import Weights


class KerasClient:
    """The plan in `plan`, bound to the client folder `data` (with train/ and test/).

    Args:
        plan: folder of the exported plan.
        document: its plan.json.
        data: the client's own folder.

    Raises:
        TaskError: it asks for a GPU where there is none.
    """

    def __init__(self, plan: Path, document: Plan, data: Path) -> None:
        _compute_on(document.device)
        self._program = _loaded(str(plan.resolve()))
        self._plan = document
        self._data = data
        examples.read(data / "train", document.example)

    def train(self, weights: Weights, seed: int) -> Update:
        """One round's work on train/ from the global `weights`, every random choice drawn from `seed`.

        Raises:
            DivergedError: the weights left the finite numbers; TFF's client work then reports no examples.
        """
        result = self._program.train(
            self._ordered(weights), str(self._data / "train"), tf.constant(seed, tf.int64)
        )
        if not float(result["examples"]):
            raise DivergedError(
                "local training diverged to NaN or infinity: lower learning.client.learning_rate"
            )
        variables = self._plan.variables
        delta = {v.name: value.numpy() for v, value in zip(variables, result["delta"], strict=True)}
        return Update(delta, float(result["examples"]), float(result["loss_sum"]), self._sums(result))

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """See Client."""
        examples.read(self._data / "test", self._plan.example)
        result = self._program.evaluate(self._ordered(weights), str(self._data / "test"))
        return {
            "examples": float(result["examples"]),
            "loss_sum": float(result["loss_sum"]),
            **self._sums(result),
        }

    def ranges(self, weights: Weights) -> Ranges:
        """Low and high quantile over train/ of each tensor's smallest and largest value in an example."""
        if not self._plan.activations:
            raise VariantError(
                "the model is no graph of layers, each used once, so it has no int8 variant: remove int8 from variants"
            )
        result = self._program.extremes(self._ordered(weights), str(self._data / "train"))
        return measured(result["smallest"].numpy(), result["largest"].numpy())

    def _sums(self, result: Any) -> dict[str, float]:
        names = metrics.SUMS[self._plan.example.label.kind]
        return dict(zip(names, result["sums"].numpy().astype(float).tolist(), strict=True))

    def _ordered(self, weights: Weights) -> list[tf.Tensor]:
        return [tf.constant(np.asarray(weights[variable.name])) for variable in self._plan.variables]


@functools.lru_cache(maxsize=1)
def _loaded(plan: str) -> Any:
    """The plan's program, loaded once for all clients of this process that execute it."""
    return tf.saved_model.load(plan)


def _compute_on(device: str) -> None:
    """Let TensorFlow compute there, which takes a GPU by itself where there is one.

    Raises:
        TaskError: a GPU is asked for where there is none.
    """
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
    if device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise TaskError("learning.client.device is cuda, but TensorFlow finds no GPU here: use auto or cpu")
