"""Where the federated engine's clients run. Every runtime speaks this interface."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fededge.weights import Weights


@dataclass(frozen=True)
class Reports:
    """What came back in time: update files by client, and why the others did not report."""

    updates: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Counts (examples, correct, loss_sum) by client, and why the others gave none."""

    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Runtime(Protocol):
    """Reaches clients; what it brings back is untrusted and screened by the engine."""

    def train(
        self, task_seed: int, round_number: int, weights: Weights, cohort: list[str], deadline_seconds: float
    ) -> Reports:
        """Have each client of `cohort` run the plan on `weights`; return when all reported or time is up."""

    def evaluate(self, weights: Weights, clients: list[str], deadline_seconds: float) -> Counts:
        """Have each of `clients` evaluate `weights` on its own test examples."""

    def close(self) -> None:
        """End whatever the runtime started."""
