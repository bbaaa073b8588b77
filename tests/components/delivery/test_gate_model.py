"""gate_model: evaluation, centralized training and champion against the task's gate."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Metrics

from fededge import lineage, storage
from fededge.delivery import registry
from fededge.errors import IntegrityError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

TASK = FederatedTask.from_json(
    json.dumps(
        {
            "name": "tiny",
            "data": {"source": "digits"},
            "gate": {
                "min_accuracy": 0.9,
                "max_gap_to_centralized": 0.03,
                "max_loss_against_champion": 0.01,
            },
        }
    )
)


@pytest.fixture
def judge(plain: Any, artifact: Any) -> Any:
    """Runs the component on two accuracies; the returned word and the decision artifact."""

    def call(accuracy: float, centralized: float) -> tuple[str, Any]:
        inputs = artifact(Metrics, "evaluation"), artifact(Metrics, "centralized")
        for made, reached in zip(inputs, (accuracy, centralized), strict=True):
            Path(made.path).write_text(json.dumps({"accuracy": reached, "loss": 0.1}))
            lineage.seal(made)
        decision = artifact(Artifact, "decision")
        return plain("delivery/gate_model")(TASK.to_json(), "run-1", *inputs, decision), decision

    return call


def test_a_model_that_reaches_its_gate_passes(judge: Any) -> None:
    word, decision = judge(0.95, 0.97)
    assert word == "pass"
    content = json.loads(Path(decision.path).read_bytes())
    assert content == {
        "decision": "pass",
        "reasons": [],
        "accuracy": 0.95,
        "centralized": 0.97,
        "champion": None,
    }
    lineage.verify(decision)
    assert len(decision.metadata["parents"]) == 2
    assert TrackedRun.join("run-1", TASK).records()["gate"] == content


def test_a_model_too_far_behind_centralized_training_fails(judge: Any) -> None:
    word, decision = judge(0.91, 0.97)
    assert word == "fail"
    (reason,) = json.loads(Path(decision.path).read_bytes())["reasons"]
    assert "max_gap_to_centralized" in reason


def test_a_model_worse_than_the_champion_fails(judge: Any, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"weights")
    measured = {"kind": "float32", "digest": storage.digest(b"model"), "shape": [2], "classes": 2}
    measured |= dict.fromkeys(("bytes", "compressed_bytes", "latency_ms_1", "latency_ms_500"), 1)
    measured |= {"accuracy": 0.99, "passed": True, "reasons": []}
    registry.register(
        TASK,
        "run-0",
        TrackedRun.join("run-0", TASK),
        registry.Trained(tmp_path / "state", "sha256:aa", round=1, accuracy=0.99),
        {"float32": b"model"},
        [measured],
        passed=True,
    )
    word, decision = judge(0.95, 0.95)
    assert word == "fail"
    content = json.loads(Path(decision.path).read_bytes())
    assert content["champion"] == {"version": 1, "accuracy": 0.99}


def test_a_tampered_evaluation_is_refused(plain: Any, artifact: Any) -> None:
    evaluation, decision = artifact(Metrics, "evaluation"), artifact(Artifact, "decision")
    Path(evaluation.path).write_text('{"accuracy": 0.5}')
    lineage.seal(evaluation)
    Path(evaluation.path).write_text('{"accuracy": 0.9}')
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/gate_model")(TASK.to_json(), "run-1", evaluation, evaluation, decision)
    assert not Path(decision.path).exists()
    outcome = TrackedRun.join("run-1", TASK).records()["steps/gate_model"]
    assert outcome["status"] == "failed"
