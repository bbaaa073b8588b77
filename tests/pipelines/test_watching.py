"""Runs on Kubeflow as they are listed and watched, against what a real Kubeflow Pipelines 2.17 answered."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge import task as tasks
from fededge.documents import Ending, RoundRecord, Score
from fededge.errors import KubeflowError
from fededge.tracking.connection import connect
from fededge.tracking.glance import reconcile
from fededge.tracking.run import TrackedRun
from pipelines import listing
from pipelines.cluster_runs import ClusterRun
from pipelines.kubeflow import Kubeflow
from pipelines.watching import Watch

from .fake_kfp_api import FakeKubeflow, serving
from .waiting import wait_for

TASK = tasks.parse("name: digits\ndata: {source: digits}\nlearning: {rounds: 3}\n")
NOW = "2026-01-01T00:00:00Z"
NEVER = "0001-01-01T00:00:00Z"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKubeflow]:
    for name in ("KFP_NAMESPACE", "KFP_EXISTING_TOKEN", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as fake:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", fake.url)
        yield fake


def run(identity: str, state: str = "RUNNING", **tasks: str) -> dict[str, Any]:
    """A run of TASK whose steps have these states."""
    details = [
        {
            "display_name": name.replace("_", "-"),
            "state": told,
            "start_time": f"2026-01-01T00:00:{index:02d}Z",
            "end_time": NEVER if told == "RUNNING" else "2026-01-01T00:01:00Z",
        }
        for index, (name, told) in enumerate(tasks.items())
    ]
    return {
        "run_id": identity,
        "display_name": "digits",
        "created_at": NOW,
        "state": state,
        "runtime_config": {"parameters": {"task": TASK.to_json()}},
        "run_details": {"task_details": details},
    }


def record(number: int) -> RoundRecord:
    score = Score(score=0.5 + number / 10, loss=1.0, examples=10)
    return RoundRecord(
        round=number,
        cohort=["a"],
        reported=["a"],
        failed={},
        examples=5.0,
        loss=1.0 / number,
        score=0.5,
        seconds=1.0,
        at=float(number),
        bytes_sent=1,
        bytes_received=1,
        held_out=score,
    )


def test_recorded_runs_of_others_are_passed_over(api: FakeKubeflow, shared: Path) -> None:
    recorded = json.loads((shared / "recorded" / "kfp-runs-list.json").read_text())["runs"]
    api.runs = {each["run_id"]: each for each in recorded}
    found = Kubeflow().runs()
    assert {each.task for each in found} == {"digits", "digits-kill"}
    assert len(recorded) > len(found) == 3


def test_runs_are_looked_for_on_later_pages(api: FakeKubeflow) -> None:
    others = {f"other-{n}": {**run(f"other-{n}"), "runtime_config": {}} for n in range(150)}
    api.runs = {**others, "mine": run("mine")}
    assert [each.id for each in Kubeflow().runs(5)] == ["mine"]
    with pytest.raises(KubeflowError, match="other-3 is not one of FedEdge"):
        Kubeflow().get("other-3")


@pytest.mark.parametrize("name", ["kfp-run-succeeded", "kfp-run-failed"])
def test_the_steps_of_a_recorded_run_are_those_of_its_pipeline(
    api: FakeKubeflow, shared: Path, name: str
) -> None:
    recorded = json.loads((shared / "recorded" / f"{name}.json").read_text())
    recorded["runtime_config"]["parameters"]["task"] = TASK.to_json()
    for each in recorded["run_details"]["task_details"]:
        told = str(each.get("display_name", ""))
        each["display_name"] = told.replace("federated-training-", "fededge-digits-")
    api.runs = {recorded["run_id"]: recorded}
    found = Kubeflow().get(recorded["run_id"])
    names = [step.name for step in found.steps]
    assert names[0] == "prepare-data"
    assert {"initialise-model", "select-cohort", "run-rounds", "evaluate-model"} < set(names)
    assert not [n for n in names if n.startswith(("fededge", "root", "exit", "for-loop", "iteration"))]
    assert not [n for n in names if n.endswith(("driver", ")", "executor"))]
    assert found.ending == Ending(state=recorded["state"])


def test_the_state_that_a_recorded_exit_task_was_told_means_that_the_run_succeeded(shared: Path) -> None:
    told = json.loads((shared / "recorded" / "kfp-exit-task-parameters.json").read_text())["status"]
    assert told["state"] == "COMPLETE"
    assert Ending(state=told["state"]).state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ("COMPLETE", "SUCCEEDED"),
        ("CACHED", "SUCCEEDED"),
        ("FAILED", "FAILED"),
        ("RUNNING", "FAILED"),
        ("CANCELLED", "CANCELED"),
        ("CANCELED", "CANCELED"),
        ("SUCCEEDED", "SUCCEEDED"),
    ],
)
def test_each_word_of_a_platform_for_an_end_is_understood(told: str, state: str) -> None:
    assert Ending(state=told).state == state


def test_a_run_that_ended_without_telling_mlflow_is_ended_there_once(api: FakeKubeflow) -> None:
    for name, state in (("done", "SUCCEEDED"), ("ended", "CANCELED"), ("goes-on", "RUNNING")):
        api.runs[name] = run(name, state)
        with TrackedRun.join(name, TASK).step("run_rounds") as step:
            step.round(record(1), "accuracy")
            step.round(record(2), "accuracy")
    listed = listing.cluster_runs(Kubeflow(), 10)
    for _ in range(2):
        found = reconcile({each.run: each.ending for each in listed})
        assert {(g.round, g.score) for g in found.values()} == {(2, 0.7)}
        status = {r.info.run_name: r.info.status for r in connect().search_runs(experiments())}
        assert status == {"done": "FINISHED", "ended": "KILLED", "goes-on": "RUNNING"}
    assert TrackedRun.find("ended").records()["ending"]["state"] == "CANCELED"


def experiments() -> list[str]:
    return [each.experiment_id for each in connect().search_experiments()]


def test_a_watched_run_tells_steps_and_rounds_once_each_and_its_end(api: FakeKubeflow) -> None:
    said: list[str] = []
    api.runs["r"] = run("r", prepare_data="RUNNING")
    ended: list[ClusterRun] = []
    thread = threading.Thread(
        target=lambda: ended.append(Watch(Kubeflow(), "r", said.append).wait(poll=0.05))
    )
    thread.start()
    wait_for(lambda: "prepare-data started" in said)
    with TrackedRun.join("r", TASK).step("run_rounds") as step:
        step.round(record(1), "accuracy")
        api.runs["r"] = run("r", prepare_data="SUCCEEDED", run_rounds="RUNNING")
        wait_for(lambda: any("round 1/3" in line for line in said))
        step.round(record(2), "accuracy")
        wait_for(lambda: any("round 2/3" in line for line in said))
    api.refuse = (503, "away for a moment")
    time.sleep(0.2)
    api.refuse = None
    api.runs["r"] = run("r", "FAILED", prepare_data="SUCCEEDED", run_rounds="FAILED")
    thread.join(10)
    assert ended[0].ending == Ending(state="FAILED")
    assert said == [
        "prepare-data started",
        "prepare-data finished after 60.0 s",
        "run-rounds started",
        "run-rounds: round 1/3: loss 1.0000, accuracy 0.5000, held out 0.6000, 1.0 s",
        "run-rounds: round 2/3: loss 0.5000, accuracy 0.5000, held out 0.7000, 1.0 s",
        "run-rounds failed after 59.0 s",
    ]


def test_a_run_that_is_not_there_is_named_at_once(api: FakeKubeflow) -> None:
    with pytest.raises(KubeflowError, match="cannot read run ghost"):
        Watch(Kubeflow(), "ghost", lambda line: None).wait(poll=0.05)
