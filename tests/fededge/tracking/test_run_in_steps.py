"""Steps of other images track themselves with a smaller MLflow than the platform's."""

import shutil
from pathlib import Path

import pytest

from fededge.documents import RoundRecord, Rounds
from fededge.task import FederatedTask
from fededge.tracking.connection import connect
from fededge.tracking.run import TrackedRun

pytestmark = pytest.mark.environment("worker", "serving")

ROUND = RoundRecord(
    round=1, cohort=["a"], reported=["a"], examples=1, loss=0.5, score=0.8, seconds=1.0, at=1_700_000_000.0
)


@pytest.mark.parametrize("name", ["plain", "josé's #1 home? 100%25"])
def test_a_step_logs_parameters_metrics_records_and_its_outcome_in_any_home(
    name: str, task: FederatedTask, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / name
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    monkeypatch.setenv("FEDEDGE_HOME", str(home))
    tracked = TrackedRun.join("run-1", task)
    with tracked.step("run_rounds-0001") as step:
        step.round(ROUND, "accuracy")
        step.record("rounds-0001", Rounds(rounds=[ROUND]))
    run = connect().get_run(tracked.run_id)
    assert (run.data.metrics["train/loss"], run.data.metrics["train/accuracy"]) == (0.5, 0.8)
    assert run.data.params["learning.client.learning_rate"] == "0.05"
    assert Rounds.from_content(tracked.records()["rounds-0001"]).rounds == [ROUND]
    assert tracked.records()["steps/run_rounds-0001"]["status"] == "succeeded"
    assert [path.name for path in tmp_path.iterdir()] == [name]
