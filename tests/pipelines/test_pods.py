"""Pods of a run on Kubeflow, against a Kubernetes API that answers from a table; words as a real cluster gave them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge.cli import main
from fededge.errors import RunError
from pipelines.pods import Pods

from .fake_api_server import serving

PODS = "/api/v1/namespaces/kubeflow/pods"
NO_CPU = "0/1 nodes are available: 1 Insufficient cpu."


def pod(name: str, step: str, **status: Any) -> dict[str, Any]:
    labels = {"pipeline/runid": "r", "fededge.io/step": step} if step else {"pipeline/runid": "r"}
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": name}, "status": status}


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    pending = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_CPU}
    table = {
        PODS: {
            "items": [
                pod("p3", "run-rounds", phase="Pending", conditions=[pending]),
                pod("p1", "prepare-data", phase="Succeeded"),
                pod("p0", "", phase="Succeeded"),
            ]
        },
        f"{PODS}/p1/log": "12 clients\nall well\n",
        f"{PODS}/p3/log": "",
    }
    with serving(table, tmp_path, monkeypatch) as served:
        yield served


def test_what_a_pending_step_waits_for_is_told_in_the_pods_own_words(answers: dict[str, Any]) -> None:
    assert Pods().waiting("r") == [f"pod p3 is Unschedulable: {NO_CPU}"]
    secret = 'secret "fededge-checkpoint-key" not found'
    waiting = {"reason": "CreateContainerConfigError", "message": secret}
    container = {"name": "main", "ready": False, "state": {"waiting": waiting}}
    answers[PODS]["items"][0]["status"] = {"containerStatuses": [container]}
    assert Pods().waiting("r") == [f"container main of pod p3: CreateContainerConfigError: {secret}"]


def test_logs_are_those_of_the_steps_in_the_order_of_their_start(answers: dict[str, Any]) -> None:
    assert list(Pods().logs("r")) == [("prepare-data", "12 clients\nall well\n"), ("run-rounds", "")]
    with pytest.raises(RunError, match=r"no pod of step gate-model any more: .* prepare-data, run-rounds"):
        list(Pods().logs("r", "gate-model"))


def test_the_command_prints_the_logs(answers: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "logs", "r", "prepare-data", "--on", "kubeflow"]) == 0
    assert capsys.readouterr().out == "==> prepare-data <==\n12 clients\nall well\n"
    answers[PODS] = 403
    assert main(["runs", "logs", "r", "--on", "kubeflow"]) == 2
    assert "403" in capsys.readouterr().err
