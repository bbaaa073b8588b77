"""A client that executes a scikit-learn plan on its own folder; it needs no TensorFlow."""

from pathlib import Path

import numpy as np

from fededge import examples
from fededge.clients import Ranges
from fededge.documents import Plan
from fededge.encoding import answers
from fededge.errors import DataError
from fededge.learning.calibration import measured
from fededge.learning.frameworks.sklearn import training
from fededge.learning.frameworks.sklearn.weights import layers, outputs, shapes
from fededge.learning.frameworks.sklearn.work import Work
from fededge.learning.streaming import blocks
from fededge.learning.tally import Tally
from fededge.update import Update
from fededge.weights import Weights


class SklearnClient:
    """The plan in `plan`, bound to the client folder `data` (with train/ and test/).

    Args:
        plan: folder of the exported plan.
        document: its plan.json.
        data: the client's own folder.
    """

    def __init__(self, plan: Path, document: Plan, data: Path) -> None:
        self._work = Work.read(plan / "work.json")
        self._schema = document.example
        self._activations = document.activations
        if {v.name: tuple(v.shape) for v in document.variables} != shapes(self._work, self._schema):
            raise DataError(f"{plan}/work.json is not of the model in plan.json: start a new run")
        self._data = data
        self._train = examples.read(data / "train", self._schema)

    def train(self, weights: Weights, seed: int) -> Update:
        """See Client."""
        return training.train(self._work, self._schema, weights, *self._train, seed)

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """See Client."""
        model, tally = layers(self._work, self._schema, weights), Tally(self._schema)
        for encoded, targets in blocks(self._schema, *examples.read(self._data / "test", self._schema)):
            tally.add(answers(self._schema, outputs(model, encoded)[-1]), targets)
        return tally.counts

    def ranges(self, weights: Weights) -> Ranges:
        """See Client."""
        model = layers(self._work, self._schema, weights)
        smallest, largest = [], []
        for encoded, _ in blocks(self._schema, *self._train):
            flat = encoded.reshape(len(encoded), -1)
            inner = outputs(model, flat)
            found = [flat] * (len(self._activations) - len(inner)) + inner
            smallest.append(np.stack([tensor.min(axis=1) for tensor in found], axis=1))
            largest.append(np.stack([tensor.max(axis=1) for tensor in found], axis=1))
        return measured(np.concatenate(smallest), np.concatenate(largest))
