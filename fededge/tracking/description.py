"""What MLflow is told about a run: the task as parameters and as a file, who started it, and by which code."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from fededge import settings
from fededge.task import FederatedTask

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

IDENTITY = "fededge.task_identity"
TASK = "fededge.task_digest"
COMMIT = "mlflow.source.git.commit"
USER = "mlflow.user"
NOTE = "mlflow.note.content"
LONGEST = 6000  # characters of a parameter that MLflow keeps
MOST = 100  # parameters in one request


def describe(client: "MlflowClient", run: "Run", task: FederatedTask) -> None:
    """Parameters, task file, commit, user and note; the task digest comes last and says that all are there."""
    from mlflow.entities import Param

    run_id, tags = run.info.run_id, run.data.tags
    new = {name: value for name, value in parameters(task).items() if name not in run.data.params}
    params = [Param(name, value) for name, value in new.items()]
    for start in range(0, len(params), MOST):
        client.log_batch(run_id, params=params[start : start + MOST])
    document = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    client.log_text(run_id, document, "task.yaml")
    if TASK not in tags:
        client.set_tag(run_id, COMMIT, settings.git_commit())
    for name, value in ((USER, settings.user()), (NOTE, _note(task))):
        if name not in tags:
            client.set_tag(run_id, name, value)
    client.set_tag(run_id, IDENTITY, task.identity)
    client.set_tag(run_id, TASK, task.digest)


def parameters(task: FederatedTask) -> dict[str, str]:
    """The task as flat MLflow parameters: `learning.client.epochs`, `variants.int8.max_bytes` ..."""
    return {name: value[:LONGEST] for name, value in _flat("", task.model_dump(mode="json"))}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        value = {item.get("kind") or item["name"]: item for item in value}
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), child)
    elif value is not None:
        yield prefix, str(value)


def _note(task: FederatedTask) -> str:
    """What the run is about, for MLflow's page of it."""
    learning = task.learning
    return (
        f"Federated training of `{task.name}` on `{task.data.source}` data: {learning.rounds} rounds of "
        f"{learning.cohort.size} clients in the engine `{learning.engine}`."
    )
