"""gate_model: evaluation, centralized training and champion against the task's gate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Artifact, Metrics, Model

from fededge import lineage, weights
from fededge.delivery.gates import NOT_COMPARED
from fededge.documents import Champion, Evaluation, GateDecision
from fededge.errors import IntegrityError
from fededge.learning.state import State
from fededge.task import FederatedTask, parse
from fededge.tracking.run import TrackedRun
from tests.registered_models import register_version

GATE = "{min: 0.9, max_loss_against_champion: 0.01"
ALONE = parse(f"name: tiny\ndata: {{source: digits}}\ngate: {GATE}}}\n")
COMPARED = parse(
    f"name: tiny\ndata: {{source: digits}}\ncompare: {{centralized: true}}\n"
    f"gate: {GATE}, max_gap_to_centralized: 0.03}}\n"
)
WEIGHTS = {"dense/kernel": np.arange(4, dtype=np.float32)}


def evaluation(accuracy: float) -> Evaluation:
    return Evaluation(
        round=1, score=accuracy, loss=0.1, examples=10, samples=100.0, per_class=[], confusion=[]
    )


@pytest.fixture
def judge(plain: Any, artifact: Any) -> Any:
    """Runs the component on two accuracies; the returned word, the decision and its artifact."""

    def call(task: FederatedTask, accuracy: float, centralized: float) -> tuple[str, GateDecision, Any]:
        inputs = artifact(Metrics, "evaluation"), artifact(Model, "state")
        evaluation(accuracy).write(inputs[0].path)
        State(task=task.identity, round=0, weights=WEIGHTS, server=[]).save(inputs[1].path)
        for made in inputs:
            lineage.seal(made)
        decision = artifact(Artifact, "decision")
        figures = artifact(Metrics, "figures")
        word = plain("delivery/gate_model")(task.to_json(), "run-1", *inputs, centralized, decision, figures)
        assert figures.metadata["accuracy"] == accuracy
        return word, GateDecision.read(decision.path), decision

    return call


def test_a_model_that_reaches_its_gate_passes_and_the_decision_says_what_was_compared(judge: Any) -> None:
    word, decided, made = judge(COMPARED, 0.95, 0.97)
    assert word == decided.decision == "pass"
    assert (decided.score, decided.centralized, decided.champion) == (0.95, 0.97, None)
    assert decided.weights_digest == weights.digest_of(WEIGHTS)
    assert decided.at > 0
    lineage.verify(made)
    assert len(made.metadata["parents"]) == 2
    assert GateDecision.from_content(TrackedRun.join("run-1", COMPARED).records()["gate"]) == decided


def test_a_model_too_far_behind_centralized_training_fails(judge: Any) -> None:
    word, decided, _ = judge(COMPARED, 0.91, 0.97)
    assert word == "fail"
    (reason,) = decided.reasons
    assert "max_gap_to_centralized" in reason


def test_a_task_that_compares_with_nothing_has_no_gap(judge: Any) -> None:
    word, decided, _ = judge(ALONE, 0.91, NOT_COMPARED)
    assert (word, decided.centralized) == ("pass", None)


def test_a_comparison_that_the_task_asks_for_cannot_be_left_out(judge: Any) -> None:
    assert judge(COMPARED, 0.95, NOT_COMPARED)[0] == "fail"


def test_a_model_worse_than_the_champion_fails(judge: Any) -> None:
    register_version(ALONE, "run-0", score=0.99)
    word, decided, _ = judge(ALONE, 0.95, NOT_COMPARED)
    assert word == "fail"
    assert decided.champion == Champion(version=1, score=0.99)


def test_a_tampered_evaluation_is_refused(plain: Any, artifact: Any) -> None:
    given, decision = artifact(Metrics, "evaluation"), artifact(Artifact, "decision")
    evaluation(0.5).write(given.path)
    lineage.seal(given)
    evaluation(0.9).write(given.path)
    with pytest.raises(IntegrityError, match="was changed"):
        plain("delivery/gate_model")(ALONE.to_json(), "run-1", given, given, NOT_COMPARED, decision, given)
    assert not Path(decision.path).exists()
    assert TrackedRun.join("run-1", ALONE).records()["steps/gate_model"]["status"] == "failed"
