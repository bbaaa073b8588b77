"""Metrics by their scikit-learn names and by import path."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as reference

from fededge.documents import Feature, Label, Schema
from fededge.errors import TaskError
from fededge.learning.figures import Answers
from fededge.learning.named_metrics import evaluate

pytestmark = pytest.mark.environment("worker")
RNG = np.random.default_rng(5)
X = np.zeros((60, 1), np.float32)
OWN = """
def wrong(y_true, y_pred):
    return float((y_true != y_pred).mean())

def several(y_true, y_pred):
    return [1.0, 2.0]

def broken(y_true, y_pred):
    return y_true.lost
"""


def answers(outputs: np.ndarray, y: np.ndarray, **label: object) -> Answers:
    feature = Feature(name="x", dtype="float32", shape=[1])
    return Answers(Schema(features=[feature], label=Label.model_validate(label)), outputs, X, y)


@pytest.fixture
def three() -> Answers:
    raw = RNG.random((60, 3))
    outputs = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    return answers(outputs, RNG.integers(0, 3, 60), kind="class", classes=3)


def test_functions_of_scikit_learn_score_classes_and_probabilities(three: Answers) -> None:
    truth, predicted = three.truth, three.predicted
    assert evaluate("matthews_corrcoef", three) == reference.matthews_corrcoef(truth, predicted)
    assert evaluate("precision_score", three) == reference.precision_score(truth, predicted, average="macro")
    assert evaluate("top_k_accuracy_score", three) == reference.top_k_accuracy_score(
        truth, three.probabilities
    )
    two = answers(RNG.random((60, 2)).astype(np.float32), RNG.integers(0, 2, 60), kind="class", classes=2)
    assert evaluate("brier_score_loss", two) == pytest.approx(
        reference.brier_score_loss(two.truth, two.probabilities[:, 1])
    )


def test_functions_of_scikit_learn_score_numbers() -> None:
    y = RNG.normal(size=60).astype(np.float32)
    found = evaluate("median_absolute_error", answers(y[:, None] + 2, y, kind="number"))
    assert found == pytest.approx(2.0, rel=1e-5)


@pytest.fixture
def two() -> Answers:
    second = RNG.random(60).astype(np.float32)
    return answers(np.stack([1 - second, second], 1), RNG.integers(0, 2, 60), kind="class", classes=2)


def test_classes_of_keras_score_what_they_are_made_for(three: Answers, two: Answers) -> None:
    truth, chances = two.truth, two.probabilities[:, 1]
    assert evaluate("keras.AUC", two) == pytest.approx(reference.roc_auc_score(truth, chances), abs=0.01)
    assert evaluate("keras.Precision", two) == pytest.approx(
        reference.precision_score(truth, two.predicted), abs=1e-6
    )
    score = reference.f1_score(three.truth, three.predicted, average="macro")
    assert evaluate("keras.F1Score", three) == pytest.approx(score, abs=1e-6)
    entropy = reference.log_loss(three.truth, three.probabilities)
    for name in ("keras.SparseCategoricalCrossentropy", "keras.CategoricalCrossentropy"):
        assert evaluate(name, three) == pytest.approx(entropy, rel=1e-4)
    y = RNG.normal(size=60).astype(np.float32)
    numbers = answers(y[:, None] + 2, y, kind="number")
    assert evaluate("keras.MeanAbsoluteError", numbers) == pytest.approx(2.0, rel=1e-5)


def test_classes_of_torchmetrics_score_what_they_are_made_for(three: Answers, two: Answers) -> None:
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed in this environment")
    coefficient = reference.matthews_corrcoef(three.truth, three.predicted)
    for name in ("torchmetrics.MatthewsCorrCoef", "torchmetrics.classification.MulticlassMatthewsCorrCoef"):
        assert evaluate(name, three) == pytest.approx(coefficient, abs=1e-5)
    assert evaluate("torchmetrics.AUROC", two) == pytest.approx(
        reference.roc_auc_score(two.truth, two.probabilities[:, 1]), abs=1e-5
    )
    labels = answers(
        RNG.random((60, 3)).astype(np.float32), RNG.integers(0, 2, (60, 3)), kind="multi-label", classes=3
    )
    assert evaluate("torchmetrics.HammingDistance", labels) == pytest.approx(
        reference.hamming_loss(labels.truth, labels.predicted), abs=1e-5
    )
    y = RNG.normal(size=60).astype(np.float32)
    numbers = answers(y[:, None] + 2, y, kind="number")
    assert evaluate("torchmetrics.MeanAbsoluteError", numbers) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("name", ["keras.Nothing", "keras.Metric.x", "keras.os", "torchmetrics.Nothing"])
def test_a_class_that_is_none_of_metrics_is_refused(three: Answers, name: str) -> None:
    if name.startswith("torchmetrics"):
        pytest.importorskip("torchmetrics", reason="torchmetrics is not installed in this environment")
    with pytest.raises(TaskError, match=f"metric {name}: there is no such class"):
        evaluate(name, three)


def test_a_function_of_the_users_own_is_imported_from_the_tasks_code(three: Answers, tmp_path: Path) -> None:
    (tmp_path / "own_metrics.py").write_text(OWN)
    assert evaluate("own_metrics:wrong", three, str(tmp_path)) == (three.truth != three.predicted).mean()
    with pytest.raises(TaskError, match=r"gave \[1. 2.\] where one finite number"):
        evaluate("own_metrics:several", three, str(tmp_path))
    with pytest.raises(TaskError, match=r"own_metrics:broken does not score .* AttributeError"):
        evaluate("own_metrics:broken", three, str(tmp_path))


@pytest.mark.parametrize("name", ["acuracy", "confusion", "make_scorer", "silhouette_score"])
def test_a_metric_that_is_none_is_refused_by_name(three: Answers, name: str) -> None:
    with pytest.raises(TaskError, match=f"metric {name} is none of the usual ones"):
        evaluate(name, three)


@pytest.mark.parametrize("name", ["confusion_matrix", "mean_poisson_deviance", "nobody.there:it"])
def test_a_metric_of_other_things_is_refused_by_name(three: Answers, name: str) -> None:
    with pytest.raises(TaskError, match=f"metric {name}"):
        evaluate(name, three)
