"""Steps of other images track themselves with a smaller MLflow than the platform's."""

import pytest

from fededge.task import FederatedTask
from fededge.tracking.connection import connect
from fededge.tracking.run import TrackedRun

pytestmark = pytest.mark.environment("worker", "serving")


@pytest.mark.usefixtures("store")
def test_a_step_logs_parameters_metrics_records_and_its_outcome(task: FederatedTask) -> None:
    tracked = TrackedRun.join("run-1", task)
    with tracked.step("run_rounds-0001") as step:
        step.round({"round": 1, "loss": 0.5, "accuracy": 0.8, "at": 1_700_000_000.0})
        step.record("rounds-0001", [1])
    run = connect().get_run(tracked.run_id)
    assert run.data.metrics == {"train/loss": 0.5, "train/accuracy": 0.8}
    assert run.data.params["learning.client.learning_rate"] == "0.05"
    assert tracked.records()["rounds-0001"] == [1]
    assert tracked.records()["steps/run_rounds-0001"]["status"] == "succeeded"
