"""The learning components as plain functions: from a task to an evaluated model."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Metrics, Model

from fededge.documents import CalibrationRanges, Evaluation, Population
from fededge.errors import IntegrityError, TaskError
from fededge.fleet.selection import select
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
            "learning": {
                "engine": "simulation",
                "rounds": 2,
                "client": {"batch_size": 100},
                "cohort": {"size": 2},
            },
            "evaluation": {"metrics": ["matthews_corrcoef"]},
            "gate": {"metric": "f1"},
        }
    )
)


@pytest.fixture
def learn(plain: Callable[..., Any], store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`learn("run_rounds", plan=...)` calls a component for TASK on this machine."""
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    return lambda name, **given: plain(f"learning/{name}")(task=TASK.to_json(), run="run-1", **given)


def selected(population: Any, artifact: Any) -> Any:
    from fededge import lineage

    selection = artifact(Artifact, "selection")
    select(TASK.learning.cohort, TASK.seed, Population.read(population.path)).write(selection.path)
    lineage.seal(selection)
    return selection


def test_from_a_task_to_an_evaluated_model(
    learn: Any, artifact: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    clients = {
        "population": artifact(Artifact, "population"),
        "data": artifact(Dataset, "data"),
        "test": artifact(Dataset, "test"),
    }
    plan, state, after = artifact(Artifact, "plan"), artifact(Model, "state"), artifact(Model, "after")
    evaluation, ranges = artifact(Metrics, "evaluation"), artifact(Artifact, "ranges")
    centralized = artifact(Metrics, "centralized")
    learn("prepare_data", compiled=TASK.to_json(), **clients)
    learn("initialize_model", population=clients["population"], plan=plan, state=state)
    selection = selected(clients["population"], artifact)
    given = {**clients, "plan": plan, "state": state, "selection": selection}
    figures, classes = artifact(Metrics, "figures"), artifact(ClassificationMetrics, "classification")
    assert (state.metadata["step"], state.metadata["run"]) == ("initialize_model", "run-1")
    state.metadata["run"] = "run-0"  # as if Kubeflow had reused it
    learn("run_rounds", until=2, next_state=after, figures=figures, **given)
    learn(
        "evaluate_model",
        calibrate=True,
        plan=plan,
        state=after,
        evaluation=evaluation,
        classification=classes,
        ranges=ranges,
        **clients,
    )
    value = learn("train_centralized", centralized=centralized, **clients)

    assert after.metadata["round"] == 2
    assert after.metadata["parents"][0] == state.metadata["digest"]
    found = Evaluation.read(evaluation.path)
    assert found.round == 2
    assert evaluation.metadata["accuracy"] == found.score
    assert [client.id for client in found.clients] == ["site-0", "site-1", "site-2"]
    assert sum(map(sum, found.confusion)) == found.examples == 898
    assert CalibrationRanges.read(ranges.path).clients == 3
    compared = Evaluation.read(centralized.path)
    assert len(compared.passes) == 2
    assert value == compared.value("f1")
    assert figures.metadata["held_out/accuracy"] == found.score
    assert evaluation.metadata["f1"] == found.metrics["f1"]
    assert evaluation.metadata["matthews_corrcoef"] == found.metrics["matthews_corrcoef"]
    assert len(classes.metadata["confusionMatrix"]["rows"]) == 10
    assert found.errors
    assert found.errors.count == found.examples
    assert "fededge: round 1/2: 2 of 2 clients" in capfd.readouterr().out
    records = TrackedRun.join("run-1", TASK).records()
    rounds = records["rounds-0001"]["rounds"]
    assert [len(record["cohort"]) for record in rounds] == [2, 2]
    assert rounds[-1]["held_out"]["score"] == found.score
    assert records["data"]["data_digest"] == clients["data"].metadata["digest"]
    assert records["evaluation-0002"]["score"] == found.score
    assert records["evaluation-0002"]["errors"] is records["centralized"]["errors"] is None
    assert records["steps/run_rounds-0001"]["status"] == "succeeded"
    assert records["steps/initialize_model"]["reused"] == "run-0"

    image = Path(clients["data"].path) / "site-0" / "train" / "x.npy"
    image.write_bytes(image.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="changed after the step"):
        learn("run_rounds", until=2, next_state=artifact(Model, "again"), figures=figures, **given)


def test_the_first_step_refuses_another_task_than_the_pipeline_was_compiled_for(
    learn: Any, artifact: Any
) -> None:
    changed = TASK.model_copy(update={"learning": TASK.learning.model_copy(update={"rounds": 6})})
    outputs = {name: artifact(Dataset, name) for name in ("population", "data", "test")}
    with pytest.raises(TaskError, match=r"compiled for another task.*learning\.rounds"):
        learn("prepare_data", compiled=changed.to_json(), **outputs)
    assert not any(Path(output.path).exists() for output in outputs.values())


def test_the_key_of_a_runs_checkpoints_is_no_part_of_the_store(
    learn: Any, artifact: Any, tmp_path: Path
) -> None:
    from fededge import settings
    from fededge.learning.checkpoints import run_key

    key = run_key("run-1")
    file = settings.home() / "runs" / "run-1" / "checkpoint.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run_key("run-1") == key != run_key("run-2")
