"""Preparing a task's data into the test's own folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples
from fededge import task as tasks
from fededge.documents import Population
from fededge.learning.data import folders


@dataclass(frozen=True)
class Prepared:
    """What prepare_data made."""

    population: Population
    clients: Path
    test: Path

    def folders(self) -> list[Path]:
        """All that hold examples."""
        return [file.parent for root in (self.clients, self.test) for file in sorted(root.rglob("x.npy"))]

    def read(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """x and y of one of them, checked against the population's schema."""
        return examples.read(folder, self.population.example)


Prepare = Callable[..., Prepared]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Prepare the data of a task with these sections."""

    def prepared(data: dict[str, Any], **sections: Any) -> Prepared:
        sections.setdefault("variants", [{"kind": "float32"}])
        sections.setdefault("learning", {"cohort": {"size": 1}})
        task = tasks.FederatedTask.model_validate({"name": "t", "data": data} | sections)
        clients, test = tmp_path / "out" / "clients", tmp_path / "out" / "test"
        return Prepared(
            folders.prepare(task.local_data, task.partition, task.seed, clients, test), clients, test
        )

    return prepared
