"""The learning components as plain functions: from a task to an evaluated model."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Metrics, Model

from fededge.errors import IntegrityError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

pytest_plugins = ["tests.mlflow_store"]
pytestmark = pytest.mark.environment("worker")

TASK = FederatedTask.from_json(
    json.dumps(
        {
            "name": "small",
            "seed": 3,
            "data": {"source": "digits", "holdout": 0.5},
            "learning": {"engine": "simulation", "rounds": 2, "client": {"batch_size": 100}},
        }
    )
)


@pytest.fixture
def learn(plain: Callable[..., Any], artifact: Callable[..., Any], store: Path) -> Callable[..., Any]:
    """`learn("prepare_data", data, test)` calls a component for TASK."""
    return lambda name, *artifacts: plain(f"learning/{name}")(TASK.to_json(), "run-1", *artifacts)


def test_from_a_task_to_an_evaluated_model(
    learn: Any, artifact: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    made = SimpleNamespace(
        data=artifact(Dataset, "data"),
        test=artifact(Dataset, "test"),
        plan=artifact(Artifact, "plan"),
        state=artifact(Model, "state"),
        cohorts=artifact(Artifact, "cohorts"),
        next_state=artifact(Model, "next_state"),
        evaluation=artifact(Metrics, "evaluation"),
        classification=artifact(ClassificationMetrics, "classification"),
        centralized=artifact(Metrics, "centralized"),
    )
    learn("prepare_data", made.data, made.test)
    learn("initialize_model", made.plan, made.state)
    Path(made.cohorts.path).write_text(json.dumps({"1": ["site-0", "site-2"], "2": ["site-1"]}))
    from fededge import lineage

    lineage.seal(made.cohorts)
    learn("run_rounds", made.data, made.plan, made.state, made.cohorts, made.next_state)
    learn(
        "evaluate_model",
        *(made.data, made.test, made.plan, made.next_state, made.evaluation, made.classification),
    )
    learn("train_centralized", made.data, made.test, made.centralized)

    assert made.next_state.metadata["round"] == 2
    assert made.next_state.metadata["parents"][0] == made.state.metadata["digest"]
    evaluation = json.loads(Path(made.evaluation.path).read_text())
    assert evaluation["round"] == 2
    assert made.evaluation.metadata["accuracy"] == evaluation["accuracy"]
    assert [client["id"] for client in evaluation["clients"]] == ["site-0", "site-1", "site-2"]
    assert sum(map(sum, evaluation["confusion"])) == evaluation["examples"] == 898
    assert len(json.loads(Path(made.centralized.path).read_text())["passes"]) == 2
    out = capfd.readouterr().out
    assert "fededge: round 1/2: 2 of 2 clients" in out
    records = TrackedRun.join("run-1", TASK).records()
    assert [r["cohort"] for r in records["rounds-0001"]] == [["site-0", "site-2"], ["site-1"]]
    assert records["data"]["digest"] == made.data.metadata["digest"]
    assert records["evaluation-0002"]["accuracy"] == evaluation["accuracy"]
    assert records["steps/run_rounds-0001"]["status"] == "succeeded"

    image = Path(made.data.path) / "clients" / "site-0" / "train" / "x.npy"
    image.write_bytes(image.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="changed after the step"):
        learn("run_rounds", made.data, made.plan, made.state, made.cohorts, artifact(Model, "again"))
