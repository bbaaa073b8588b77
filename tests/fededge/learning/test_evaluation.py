"""Evaluation, central and at each client; and centralized training."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fededge.errors import DivergedError, RoundError
from fededge.learning.evaluation import evaluate, evaluate_state
from fededge.learning.frameworks.keras import centralized as centralized
from fededge.learning.frameworks.keras import models
from fededge.learning.state import State
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("worker")


def test_evaluation_counts_by_class() -> None:
    y = np.array([0, 0, 1, 2])
    scores = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], np.float32)
    result = evaluate(lambda x, training: scores[: len(x)], np.zeros((4, 1), np.float32), y, 3)
    assert result["accuracy"] == 0.75
    assert result["loss"] == pytest.approx(-np.log([0.7, 0.2, 0.8, 0.4]).mean())
    assert result["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert result["per_class"][0] == {
        "label": 0,
        "examples": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert result["per_class"][1]["precision"] == 0.5


def test_a_class_that_never_occurs_has_zeros_not_nan() -> None:
    scores = np.array([[1.0, 0.0, 0.0]], np.float32)
    result = evaluate(lambda x, training: scores, np.zeros((1, 1), np.float32), np.array([0]), 3)
    assert result["per_class"][2] == {"label": 2, "examples": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_a_model_that_answers_nan_is_named() -> None:
    with pytest.raises(DivergedError, match="learning_rate"):
        evaluate(lambda x, training: np.full((1, 3), np.nan), np.zeros((1, 1)), np.array([0]), 3)


def test_sites_and_simulation_evaluate_alike(prepared, make_task: Callable[..., FederatedTask]) -> None:  # type: ignore[no-untyped-def]
    results = []
    for engine in ("simulation", "federated"):
        task = make_task(engine=engine)
        state = State(task.digest, 0, models.initial_weights(task), [])
        results.append(evaluate_state(task, state, prepared.data, prepared.test, prepared.plan(task)))
    for first, second in zip(results[0]["clients"], results[1]["clients"], strict=True):
        assert first["id"] == second["id"]
        assert first["examples"] == second["examples"]
        assert first["accuracy"] == pytest.approx(second["accuracy"])
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-4)


def test_a_site_that_cannot_evaluate_is_left_out_with_its_reason(  # type: ignore[no-untyped-def]
    prepared, make_task: Callable[..., FederatedTask], tmp_path: Path
) -> None:
    task = make_task()
    state = State(task.digest, 0, models.initial_weights(task), [])
    shutil.copytree(prepared.data, tmp_path / "data")
    (tmp_path / "data" / "clients" / "site-1" / "test" / "x.npy").write_bytes(b"no images")
    result = evaluate_state(task, state, tmp_path / "data", prepared.test, prepared.plan(task))
    assert [client["id"] for client in result["clients"]] == ["site-0", "site-2"]
    assert set(result["failed"]) == {"site-1"}
    shutil.rmtree(tmp_path / "data" / "clients")
    with pytest.raises(RoundError, match="no client can evaluate the model"):
        evaluate_state(task, state, tmp_path / "data", prepared.test, prepared.plan(task))


def test_centralized_training_learns_with_as_many_samples(prepared, make_task) -> None:  # type: ignore[no-untyped-def]
    task = make_task(client={"batch_size": 20, "learning_rate": 0.05}, rounds=2)
    curve: list[float] = []
    result = centralized.train(
        task, prepared.data, prepared.test, lambda number, value: curve.append(value["accuracy"])
    )
    assert len(curve) == 2
    assert [row["accuracy"] for row in result["passes"]] == curve
    assert result["accuracy"] == curve[-1] > 0.5
    trained = sum(len(np.load(p)) for p in prepared.data.glob("clients/*/train/y.npy"))
    assert result["samples"] == pytest.approx(2 * trained, abs=40)
