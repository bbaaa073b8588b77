"""Counts of many examples, and the update of a training in which they were counted."""

import numpy as np

from fededge.counting import losses, sums
from fededge.documents import Schema
from fededge.metrics import SUMS
from fededge.update import Update
from fededge.weights import Weights


class Tally:
    """Adds up what is counted over blocks of examples of `schema`."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._counts = dict.fromkeys(("examples", "loss_sum", *SUMS[schema.label.kind]), 0.0)

    def add(self, outputs: np.ndarray, wanted: np.ndarray) -> None:
        """Count examples; arguments as for `fededge.counting.losses`."""
        found = {
            "examples": float(len(wanted)),
            "loss_sum": float(losses(self._schema, outputs, wanted).sum()),
            **sums(self._schema, outputs, wanted),
        }
        for name, value in found.items():
            self._counts[name] += value

    @property
    def counts(self) -> dict[str, float]:
        """See `fededge.learning.interfaces.Client.evaluate`."""
        return dict(self._counts)

    def update(self, delta: Weights) -> Update:
        """The update of a training in which these examples were counted."""
        counts = self.counts
        return Update(delta, counts.pop("examples"), counts.pop("loss_sum"), counts)
