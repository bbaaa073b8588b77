"""A small task with its data and plan, made once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fededge.documents import Population
from fededge.task import FederatedTask

if TYPE_CHECKING:
    from fededge.learning.interfaces import ModelSpec


def small_task(**changes: Any) -> FederatedTask:
    """Digits at three sites, one pass in large batches; `changes` go into `learning`."""
    content = {
        "name": "small",
        "seed": 3,
        "data": {"source": "digits", "holdout": 0.5},
        "model": {"name": "cnn", "arguments": {"dropout": changes.pop("dropout", 0.25)}},
        "operation": changes.pop("operation", {}),
        "learning": {"rounds": 3, "client": {"batch_size": 100}} | changes,
    }
    return FederatedTask.from_json(json.dumps(content))


@dataclass(frozen=True)
class Prepared:
    """What prepare_data and initialize_model would make: folders, and the population."""

    clients: Path
    test: Path
    plans: Path
    population: Population

    @property
    def ids(self) -> list[str]:
        """Of all clients."""
        return [client.id for client in self.population.clients]

    def plan(self, task: FederatedTask) -> Path:
        """The exported plan of `task`."""
        folder = self.plans / task.identity.removeprefix("sha256:")[:16]
        if not (folder / "plan.json").exists():
            self.spec(task).export_plan(task.learning.client, task.identity, folder)
        return folder

    def spec(self, task: FederatedTask) -> "ModelSpec":
        """The model of `task`."""
        from fededge.learning.frameworks import model_spec

        return model_spec(task.model, self.population.example, task.seed)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    from fededge.learning.data import folders

    root = tmp_path_factory.mktemp("prepared")
    task = small_task()
    population = folders.prepare(task.local_data, task.partition, task.seed, root / "clients", root / "test")
    return Prepared(root / "clients", root / "test", root / "plans", population)


@pytest.fixture(scope="session")
def make_task() -> Callable[..., FederatedTask]:
    return small_task
