"""The state of a federated run between two rounds: everything needed to go on, in one file.

A state is one safetensors file: tensors `model/<variable>` (global weights, float32) and
`server/<index>` (state of the aggregator and server optimizer), and in the header the JSON document
`StateHeader`. Random choices need no state of their own: each is drawn from the task's seed, the round
and the client. docs/formats.md describes the bytes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fededge import storage, weights
from fededge.documents import Document, RoundRecord
from fededge.documents.base import Count
from fededge.errors import DocumentError, IntegrityError
from fededge.weights import Weights

LIMIT = 8 << 30


class StateHeader(Document):
    """What a state says beside its tensors.

    Attributes:
        task: identity of the task.
        round: committed rounds so far.
        history: their records.
    """

    KIND: ClassVar = "state"
    VERSION: ClassVar = 3
    REMEDY: ClassVar = "Give a file that run_rounds or initialize_model wrote"
    UNVERSIONED: ClassVar = True

    task: str
    round: Count
    history: list[RoundRecord]

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """See RoundRecord.upgraded."""
        content = super().upgraded(content, version)
        history = [RoundRecord.upgraded(record, version) for record in content.get("history", [])]
        return {**content, "history": history}


@dataclass(frozen=True)
class State:
    """Global weights, server state and history after `round` committed rounds of the task `task`."""

    task: str
    round: int
    weights: Weights
    server: list[np.ndarray]
    history: list[RoundRecord] = field(default_factory=list)

    @property
    def samples(self) -> float:
        """Sample passes of all clients until now."""
        return sum(record.examples for record in self.history)

    def to_bytes(self) -> bytes:
        """The one-file form; the same state always gives the same bytes."""
        tensors = {f"model/{name}": value for name, value in self.weights.items()}
        tensors |= {f"server/{index:04d}": value for index, value in enumerate(self.server)}
        header = StateHeader(task=self.task, round=self.round, history=self.history)
        return weights.to_bytes(tensors, {"state": header.to_bytes().decode()})

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "state") -> "State":
        """The state in `data`; `where` names it in errors.

        Raises:
            IntegrityError: not a safetensors file, or not a state.
            DocumentError: its header is malformed, or of a newer format.
        """
        tensors = weights.from_bytes(data)
        text = weights.metadata_of(data).get("state")
        if text is None:
            raise IntegrityError(f"{where} is a safetensors file but not a state. {StateHeader.REMEDY}")
        header = StateHeader.from_bytes(text.encode(), where)
        model = {n.removeprefix("model/"): t for n, t in tensors.items() if n.startswith("model/")}
        count = len(header.history)
        if count != header.round or [record.round for record in header.history] != list(range(1, count + 1)):
            raise DocumentError(f"{where} has an incomplete history. {StateHeader.REMEDY}")
        if not model or any(value.dtype != np.float32 for value in model.values()):
            raise IntegrityError(
                f"{where} has no weights, or some that are not float32. {StateHeader.REMEDY}"
            )
        return cls(
            task=header.task,
            round=header.round,
            weights=model,
            server=[t for n, t in tensors.items() if n.startswith("server/")],
            history=header.history,
        )

    def save(self, url: str | Path) -> None:
        """Write the state to `url`, whole or not at all."""
        storage.write(str(url), self.to_bytes())


def load(url: str | Path, task: str | None = None) -> State:
    """Read the state at `url`; errors as for `State.from_bytes`, and StorageError.

    Args:
        url: of the file.
        task: identity of the task that it must be of; None takes any.

    Raises:
        IntegrityError: it is of another task.
    """
    state = State.from_bytes(storage.read(str(url), LIMIT), str(url))
    if task is not None and state.task != task:
        raise IntegrityError(
            f"{url} is a state of the task {state.task}, not of {task}: give the state of this task, or start with "
            "`fededge run --fresh`"
        )
    return state
