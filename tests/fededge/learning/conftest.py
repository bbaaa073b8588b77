"""A small task with its data and plan, made once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fededge.task import FederatedTask


def small_task(**changes: Any) -> FederatedTask:
    """Digits at three sites, one pass in large batches; `changes` go into `learning`."""
    content = {
        "name": "small",
        "seed": 3,
        "data": {"source": "digits", "holdout": 0.5},
        "model": {"name": "cnn", "dropout": changes.pop("dropout", 0.25)},
        "learning": {"rounds": 3, "client": {"batch_size": 100}} | changes,
    }
    import json

    return FederatedTask.from_json(json.dumps(content))


@dataclass(frozen=True)
class Prepared:
    """Folders that prepare_data and initialize_model would make."""

    data: Path
    test: Path
    plans: Path
    clients: list[str]

    def plan(self, task: FederatedTask) -> Path:
        """The exported plan of `task`."""
        from fededge.learning.tff import plan as engine_plan

        folder = self.plans / task.digest.removeprefix("sha256:")[:16]
        if not (folder / "plan.json").exists():
            engine_plan.export(task, folder)
        return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    from fededge.learning.data import folders

    root = tmp_path_factory.mktemp("prepared")
    population = folders.prepare(small_task(), root / "data", root / "test")
    return Prepared(
        root / "data", root / "test", root / "plans", [client["id"] for client in population["clients"]]
    )


@pytest.fixture(scope="session")
def make_task() -> Callable[..., FederatedTask]:
    return small_task
