"""What a model's outputs are worth on held-out examples, by the kind of their label.

Outputs are those of an inference model, float32 [n, schema.outputs]: see fededge.documents.Label.
"""

import math

import numpy as np

from fededge.counting import losses, sums
from fededge.documents import ClassScore, Label, Quantile, Schema
from fededge.encoding import targets
from fededge.examples import floats
from fededge.metrics import score

BINS = 15
"""Of confidences, for the calibration error."""
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
POINTS = 400
"""Examples whose residuals are kept for a plot."""
CORNERS = 100
"""Points of a ROC curve that are kept."""


class Answers:
    """Outputs beside what was wanted.

    Args:
        schema: of the examples.
        outputs: float32 [n, schema.outputs], finite.
        x: examples as stored, uint8 or float32 [n, *schema.shape].
        y: labels as stored.
    """

    def __init__(self, schema: Schema, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self.schema, self.label, self.outputs = schema, schema.label, outputs
        self.wanted = targets(schema, floats(x) if schema.label.kind == "none" else x, np.asarray(y))
        self.losses = losses(schema, outputs, self.wanted)
        self.score = score(schema.label.kind, len(outputs), sums(schema, outputs, self.wanted))
        self._y = np.asarray(y)

    @property
    def truth(self) -> np.ndarray:
        """int64 [n] of classes, [n * steps] of sequences; int64 [n, classes]; numbers float32 [n] or [n, outputs]."""
        if self.label.kind in ("class", "sequence"):
            return self.wanted.reshape(-1)
        if self.label.kind == "multi-label":
            return (self.wanted > 0.5).astype(np.int64)
        flat = self._y.reshape(len(self._y), -1) if self.label.kind == "number" else self.wanted
        return flat[:, 0] if flat.shape[1] == 1 else flat

    @property
    def probabilities(self) -> np.ndarray:
        """float32 [n or n * steps, classes] of classes, labels and sequences."""
        return self.outputs.reshape(-1, self.label.classes)

    @property
    def predicted(self) -> np.ndarray:
        """What the outputs say, in the form of `truth`."""
        if self.label.kind in ("class", "sequence"):
            return self.probabilities.argmax(axis=1)
        if self.label.kind == "multi-label":
            return (self.outputs > 0.5).astype(np.int64)
        return self.outputs[:, 0] if self.outputs.shape[1] == 1 else self.outputs

    @property
    def errors(self) -> np.ndarray:
        """By example: bool, whether its class is wrong; else the share of wrong answers, or the squared error."""
        if self.label.kind == "class":
            return np.asarray(self.predicted != self.truth)
        if self.label.classes:
            return np.asarray((self.predicted != self.truth).reshape(len(self.outputs), -1).mean(axis=1))
        return self.losses


def figures(answers: Answers) -> dict[str, float]:
    """The usual metrics of the label's kind, by name.

    | kind | metrics |
    |---|---|
    | class | accuracy, balanced_accuracy, f1 and auc (macro; auc one-vs-rest), calibration_error, loss |
    | multi-label | accuracy, f1 and auc (macro), loss |
    | sequence | accuracy, perplexity, loss |
    | number | r2, mae, rmse, loss |
    | none | r2, rmse, loss |

    mae and rmse are in the label's unit; those that cannot be told, such as auc with one class, are left out.
    """
    kind, found = answers.label.kind, {"loss": float(answers.losses.mean())}
    if kind in ("number", "none"):
        error = answers.predicted.astype(np.float64) - answers.truth
        found |= {"r2": answers.score, "rmse": math.sqrt(float((error**2).mean()))}
        return found | ({"mae": float(abs(error).mean())} if kind == "number" else {})
    found["accuracy"] = answers.score
    if kind == "sequence":
        return found | {"perplexity": math.exp(min(found["loss"], 50.0))}
    rows = [row for row in per_class(answers) if row.examples]
    found["f1"] = sum(row.f1 for row in rows) / max(len(rows), 1)
    if (area := _auc(answers)) is not None:
        found["auc"] = area
    if kind == "class":
        found["balanced_accuracy"] = sum(row.recall for row in rows) / len(rows)
        found["calibration_error"] = calibration_error(answers)
    return found


def per_class(answers: Answers) -> list[ClassScore]:
    """Scores by class, or by label of multi-label."""
    label = answers.label
    if label.kind == "class":
        table = confusion(answers)
        hits, actual, claimed = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    else:
        truth, predicted = answers.truth, answers.predicted
        hits, actual, claimed = (truth & predicted).sum(axis=0), truth.sum(axis=0), predicted.sum(axis=0)
    return [
        ClassScore(
            label=_named(label, index),
            examples=int(actual[index]),
            precision=float(hits[index] / max(claimed[index], 1)),
            recall=float(hits[index] / max(actual[index], 1)),
            f1=float(2 * hits[index] / max(actual[index] + claimed[index], 1)),
        )
        for index in range(label.classes)
    ]


def confusion(answers: Answers) -> np.ndarray:
    """Counts int64 [classes, classes] by true class and predicted class."""
    classes = answers.label.classes
    places = answers.truth * classes + answers.predicted
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def calibration_error(answers: Answers) -> float:
    """The expected calibration error: how far confidences are from the shares of right answers, over 15 bins.

    Guo et al. 2017, On calibration of modern neural networks, ICML, equation 3.
    """
    confidence = answers.probabilities.max(axis=1).astype(np.float64)
    right = answers.predicted == answers.truth
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(abs(gaps).sum() / len(confidence))


def roc(answers: Answers) -> list[list[float]]:
    """False and true positive rate and threshold of the second class of two; empty where there are not two."""
    if answers.label.kind != "class" or answers.label.classes != 2 or len(set(answers.truth)) < 2:
        return []
    from sklearn.metrics import roc_curve

    points = np.stack(roc_curve(answers.truth, answers.probabilities[:, 1]), axis=1)
    points[:, 2] = np.clip(points[:, 2], 0, 1)  # the first threshold is infinite
    kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), CORNERS)).astype(int))
    return [[float(value) for value in point] for point in points[kept]]


def quantiles(answers: Answers) -> list[Quantile]:
    """Of output minus target in the label's unit, or of each example's reconstruction error; empty for classes."""
    if answers.label.classes:
        return []
    values = answers.losses if answers.label.kind == "none" else (answers.predicted - answers.truth).ravel()
    return [
        Quantile(share=share, value=float(value))
        for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    ]


def residuals(answers: Answers) -> list[list[float]]:
    """Pairs of an output and what it is above its target, of evenly chosen examples; only of numbers."""
    if answers.label.kind != "number":
        return []
    predicted, truth = answers.predicted.ravel(), answers.truth.ravel()
    chosen = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), POINTS)).astype(int))
    return [[float(predicted[at]), float(predicted[at] - truth[at])] for at in chosen]


def _auc(answers: Answers) -> float | None:
    """Area under the ROC curve, the mean over classes that some examples have and some have not."""
    from sklearn.metrics import roc_auc_score

    truth, classes = answers.truth, answers.label.classes
    if answers.label.kind == "class":
        truth = truth[:, None] == np.arange(classes)
    two = [index for index in range(classes) if 0 < truth[:, index].sum() < len(truth)]
    areas = [roc_auc_score(truth[:, index], answers.probabilities[:, index]) for index in two]
    return float(np.mean(areas)) if areas else None


def _named(label: Label, index: int) -> str:
    return label.names[index] if label.names else str(index)
