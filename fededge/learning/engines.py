"""One interface, two engines: where a round's client work runs is all that differs.

**simulation** runs whole rounds inside TFF, for research and many clients. **federated** runs the
clients wherever they are and lets TFF aggregate the updates they hand in. For the same seed and
cohort both give the same weights.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from fededge.task import FederatedTask
from fededge.weights import Weights


@dataclass(frozen=True)
class Outcome:
    """What a committed round gives.

    weights and server: the next state. reported and failed: client ids, the latter with reasons.
    examples: sample passes; loss and accuracy: means over them, during training.
    """

    weights: Weights
    server: list[np.ndarray]
    reported: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    examples: float = 0.0
    loss: float = 0.0
    accuracy: float = 0.0


class Engine(Protocol):
    """Makes the next state from a state and a cohort."""

    def initialize(self) -> list[np.ndarray]:
        """The server state before the first round."""

    def next(
        self, weights: Weights, server: list[np.ndarray], round_number: int, cohort: list[str]
    ) -> Outcome:
        """Run round `round_number` with the clients in `cohort`.

        Raises:
            QuorumError: too few clients reported before the deadline.
            WorkerError: the TFF worker died or is stuck.
        """


def open_engine(task: FederatedTask, data: Path, plan: Path) -> AbstractContextManager[Engine]:
    """The engine that `task` names, over the client folders in `data`; use it with `with`."""
    if task.learning.engine == "simulation":
        from fededge.learning.tff.simulation import SimulationEngine

        return SimulationEngine(task, data)
    from fededge.learning.federated import FederatedEngine
    from fededge.learning.runtimes.local import LocalSites

    return FederatedEngine(task, LocalSites(plan, data / "clients"))
