"""What outputs are worth, by the kind of label, held against scikit-learn's own functions."""

import numpy as np
import pytest
import sklearn.metrics as reference

from fededge.documents import Feature, Label, Schema
from fededge.errors import DivergedError
from fededge.learning import figures
from fededge.learning.evaluation import evaluate
from fededge.paired import unpack

pytestmark = pytest.mark.environment("worker")
RNG = np.random.default_rng(3)
N = 300
X = RNG.normal(20.0, 5.0, (N, 4)).astype(np.float32)


def schema(**label: object) -> Schema:
    """Four numbers, of which the first two are standardized."""
    features = [
        Feature(name="warm", dtype="float32", shape=[2], mean=20.0, std=5.0),
        Feature(name="rest", dtype="float32", shape=[2]),
    ]
    return Schema(features=features, label=Label.model_validate(label))


def shares(*shape: int) -> np.ndarray:
    """Probabilities along the last axis."""
    raw = RNG.random(shape)
    return (raw / raw.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_classes_have_the_usual_metrics() -> None:
    outputs, y = shares(N, 3), RNG.integers(0, 3, N)
    found = evaluate(
        outputs, X, y, schema(kind="class", classes=3, names=["a", "b", "c"]), round=2, samples=9
    )
    predicted = outputs.argmax(axis=1)
    assert (found.metric, found.score, found.round, found.samples) == (
        "accuracy",
        (predicted == y).mean(),
        2,
        9,
    )
    assert found.metrics == pytest.approx(
        {
            "accuracy": found.score,
            "balanced_accuracy": reference.balanced_accuracy_score(y, predicted),
            "f1": reference.f1_score(y, predicted, average="macro"),
            "auc": reference.roc_auc_score(y, outputs, multi_class="ovr"),
            "calibration_error": found.metrics["calibration_error"],
            "loss": reference.log_loss(y, outputs),
        },
        rel=1e-5,
    )
    assert found.loss == found.metrics["loss"]
    assert found.confusion == reference.confusion_matrix(y, predicted).tolist()
    assert [row.label for row in found.per_class] == ["a", "b", "c"]
    assert found.per_class[1].recall == pytest.approx(reference.recall_score(y, predicted, average=None)[1])
    assert (found.roc, found.quantiles, found.residuals) == ([], [], [])
    assert found.errors
    assert (unpack(found.errors) == (predicted != y)).all()


def test_confidence_that_is_deserved_has_no_calibration_error() -> None:
    y = np.repeat([0, 0, 0, 1], 25)
    sure = np.tile(np.array([0.75, 0.25], np.float32), (100, 1))
    two = schema(kind="class", classes=2)
    assert evaluate(sure, X[:100], y, two).metrics["calibration_error"] == pytest.approx(0.0)
    blind = np.tile(np.array([1.0, 0.0], np.float32), (100, 1))
    assert evaluate(blind, X[:100], y, two).metrics["calibration_error"] == pytest.approx(0.25)


def test_two_classes_have_a_curve() -> None:
    outputs, y = shares(N, 2), RNG.integers(0, 2, N)
    found = evaluate(outputs, X, y, schema(kind="class", classes=2))
    curve = np.array(found.roc)
    assert curve[0, :2].tolist() == [0, 0]
    assert curve[-1, :2].tolist() == [1, 1]
    assert len(curve) <= figures.CORNERS
    assert found.metrics["auc"] == pytest.approx(reference.auc(curve[:, 0], curve[:, 1]), abs=0.02)


def test_a_class_that_never_occurs_has_zeros_and_no_part_in_means() -> None:
    found = evaluate(
        np.array([[0.9, 0.1, 0.0]], np.float32), X[:1], np.array([0]), schema(kind="class", classes=3)
    )
    last = found.per_class[2]
    assert (last.label, last.examples, last.precision, last.recall, last.f1) == ("2", 0, 0.0, 0.0, 0.0)
    assert (found.metrics["f1"], found.metrics["balanced_accuracy"]) == (1.0, 1.0)
    assert "auc" not in found.metrics


def test_several_labels_are_scored_one_by_one() -> None:
    outputs = RNG.random((N, 3)).astype(np.float32)
    y = RNG.integers(0, 2, (N, 3)).astype(np.float32)
    found = evaluate(outputs, X, y, schema(kind="multi-label", classes=3))
    predicted = (outputs > 0.5).astype(int)
    assert found.score == pytest.approx((predicted == y).mean())
    assert found.metrics["f1"] == pytest.approx(reference.f1_score(y, predicted, average="macro"))
    assert found.metrics["auc"] == pytest.approx(reference.roc_auc_score(y, outputs))
    assert found.metrics["loss"] == pytest.approx(
        np.mean([reference.log_loss(y[:, k], outputs[:, k]) for k in range(3)]), rel=1e-5
    )
    assert (len(found.per_class), found.confusion) == (3, [])
    assert found.errors
    assert unpack(found.errors) == pytest.approx((predicted != y).mean(axis=1), abs=1e-3)


def test_numbers_are_scored_in_their_unit() -> None:
    y = RNG.normal(100.0, 10.0, N).astype(np.float32)
    outputs = (y + RNG.normal(1.0, 3.0, N)).astype(np.float32)[:, None]
    found = evaluate(outputs, X, y, schema(kind="number", mean=[100.0], std=[10.0]))
    assert found.metric == "r2"
    assert found.score == pytest.approx(reference.r2_score(y, outputs), abs=1e-4)
    assert found.metrics["mae"] == pytest.approx(reference.mean_absolute_error(y, outputs), rel=1e-4)
    assert found.metrics["rmse"] == pytest.approx(reference.root_mean_squared_error(y, outputs), rel=1e-4)
    assert found.loss == pytest.approx(found.metrics["rmse"] ** 2 / 100, rel=1e-3)
    middle = next(each.value for each in found.quantiles if each.share == 0.5)
    assert middle == pytest.approx(np.median(outputs[:, 0] - y), rel=1e-4)
    assert found.residuals[0] == pytest.approx([outputs[0, 0], outputs[0, 0] - y[0]])
    assert (found.per_class, found.confusion) == ([], [])


def test_several_numbers_are_scored_together() -> None:
    y = RNG.normal(0.0, 1.0, (N, 2)).astype(np.float32)
    found = evaluate(y * 0.9, X, y, schema(kind="number", shape=[2]))
    assert 0.98 < found.score < 1
    assert found.metrics["mae"] == pytest.approx(reference.mean_absolute_error(y, y * 0.9), rel=1e-4)


def test_sequences_are_scored_by_step() -> None:
    outputs, y = shares(N, 5, 4), RNG.integers(0, 4, (N, 5))
    found = evaluate(outputs.reshape(N, -1), X, y, schema(kind="sequence", classes=4, shape=[5]))
    assert found.score == pytest.approx((outputs.argmax(axis=2) == y).mean())
    assert found.metrics["perplexity"] == pytest.approx(np.exp(found.loss))
    assert set(found.metrics) == {"accuracy", "perplexity", "loss"}


def test_a_reconstruction_is_held_against_what_the_model_sees() -> None:
    seen = X.copy()
    seen[:, :2] = (X[:, :2] - 20.0) / 5.0
    found = evaluate(seen + 1.0, X, np.empty((N, 0), np.float32), schema(kind="none"))
    assert found.metric == "r2"
    assert found.metrics["rmse"] == pytest.approx(1.0)
    assert [each.value for each in found.quantiles] == pytest.approx([1.0] * len(found.quantiles), rel=1e-4)
    assert found.residuals == []


def test_a_model_that_answers_nan_is_named() -> None:
    with pytest.raises(DivergedError, match="learning_rate"):
        evaluate(np.full((1, 3), np.nan, np.float32), X[:1], np.array([0]), schema(kind="class", classes=3))
