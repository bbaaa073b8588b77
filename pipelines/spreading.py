"""Spreading a task's examples over folders, in the worker environment of this machine."""

from pathlib import Path

from fededge.documents import Population
from fededge.host.layout import VENVS
from fededge.learning.data.spreading import Answer, Request
from fededge.task import FederatedTask
from pipelines.asking import ask


def spread(task: FederatedTask, output: Path, environments: Path = VENVS) -> Population:
    """Write each client's folder and the held-out examples of `task` into the new folder `output`.

    Raises:
        DataError: the examples are missing or malformed, or cannot be spread as asked.
        TaskError: the examples lie at clients already.
        StorageError: the folder exists, or cannot be written.
        EnvironmentMissing: there is no worker environment here.
    """
    request = Request(task=task.to_json(), output=output.absolute()).model_dump_json()
    what = f"the data of task {task.name}"
    population = ask("fededge.learning.data.spreading", request, Answer, what, environments).population
    assert population is not None
    return population
