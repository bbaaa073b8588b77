"""The state of a federated run between two rounds: everything needed to go on, in one file.

A state is one safetensors file: tensors `model/<variable>` (global weights, float32) and
`server/<index>` (state of the aggregator and server optimizer), and in the header a JSON document with
task digest, round number, origin and the history of rounds. Random choices need no state of their own:
each is drawn from the task's seed, the round and the client.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fededge import storage, weights
from fededge.errors import IntegrityError
from fededge.weights import Weights

LIMIT = 8 << 30


@dataclass(frozen=True)
class State:
    """Global weights, server state and history after `round` committed rounds of the task `task`."""

    task: str
    round: int
    weights: Weights
    server: list[np.ndarray]
    history: list[dict[str, Any]] = field(default_factory=list)
    origin: str = ""

    def to_bytes(self) -> bytes:
        """The one-file form."""
        tensors = {f"model/{name}": value for name, value in self.weights.items()}
        tensors |= {f"server/{index:04d}": value for index, value in enumerate(self.server)}
        document = {"task": self.task, "round": self.round, "history": self.history, "origin": self.origin}
        return weights.to_bytes(tensors, {"state": json.dumps(document)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """The state in `data`.

        Raises:
            IntegrityError: not a state.
        """
        tensors = weights.from_bytes(data)
        try:
            document = json.loads(weights.metadata_of(data)["state"])
        except (KeyError, ValueError) as error:
            raise IntegrityError(
                "this safetensors file is not a state: give one that run_rounds wrote"
            ) from error
        return cls(
            task=document["task"],
            round=document["round"],
            weights={n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")},
            server=[t for n, t in tensors.items() if n.startswith("server/")],
            history=document["history"],
            origin=document["origin"],
        )

    def save(self, url: str | Path) -> None:
        """Write the state to `url`, whole or not at all."""
        storage.write(str(url), self.to_bytes())


def load(url: str | Path) -> State:
    """Read the state at `url`."""
    return State.from_bytes(storage.read(str(url), LIMIT))
