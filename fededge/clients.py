"""A client: a participant of learning that executes a plan on examples of its own, in whatever framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fededge.update import Update
from fededge.weights import Weights


class Client(Protocol):
    """A participant bound to its own examples."""

    def train(self, weights: Weights, seed: int) -> Update:
        """One round's work from the global `weights`, every random choice drawn from `seed`.

        Raises:
            DivergedError: training produced NaN or infinity.
        """

    def evaluate(self, weights: Weights) -> Mapping[str, float]:
        """Counts of `weights` on the client's test examples: examples, loss_sum and the sums of `fededge.metrics`."""

    def ranges(self, weights: Weights) -> "Ranges":
        """Between which values the model's input and activations lie on the client's training examples."""


@dataclass(frozen=True)
class Ranges:
    """A low and a high quantile, over `examples` examples, of each tensor that the plan's document names."""

    examples: int
    low: list[float]
    high: list[float]
