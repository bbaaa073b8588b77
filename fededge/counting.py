"""What a client counts on its examples: how many, their loss, and the sums that a score follows from."""

from collections.abc import Sequence

import numpy as np

from fededge import metrics
from fededge.documents import Feature, Label, Schema
from fededge.encoding import standardized, targets

SMALLEST = 1e-7
"""Probability below which the loss of an example is not followed."""


def losses(schema: Schema, outputs: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The loss of each example, float64 [n].

    Cross-entropy in nats for classes (the mean over the steps of a sequence, or over the labels of multi-label),
    the mean squared error of standardized numbers otherwise.

    Args:
        schema: of the examples.
        outputs: of an inference model, float32 [n, schema.outputs].
        wanted: see `fededge.encoding.targets`.
    """
    kind = schema.label.kind
    if kind in ("class", "sequence"):
        right = np.take_along_axis(_by_class(schema, outputs), wanted.reshape(len(wanted), -1, 1), axis=2)
        return _log(right).mean(axis=(1, 2))
    if kind == "multi-label":
        return _log(np.where(wanted > 0.5, outputs, 1 - outputs)).mean(axis=1)
    return ((standardized(schema, outputs) - wanted) ** 2).mean(axis=1, dtype=np.float64)


def sums(schema: Schema, outputs: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """The sums of `fededge.metrics.SUMS` over examples; arguments as for `losses`."""
    kind = schema.label.kind
    if kind in ("class", "sequence"):
        hits = _by_class(schema, outputs).argmax(axis=2) == wanted.reshape(len(wanted), -1)
        return {"correct": float(hits.mean(axis=1).sum())}
    if kind == "multi-label":
        return {"correct": float(((outputs > 0.5) == (wanted > 0.5)).mean(axis=1).sum())}
    wanted = wanted.astype(np.float64)
    return {
        "squared_error": float(losses(schema, outputs, wanted).sum()),
        "target": float(wanted.mean(axis=1).sum()),
        "target_squared": float((wanted**2).mean(axis=1).sum()),
    }


def score(schema: Schema, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The score of `outputs`, in the metric of the label's kind; other arguments as for `counts`."""
    return metrics.score(schema.label.kind, len(y), sums(schema, outputs, targets(schema, x, y)))


def unnamed(shape: Sequence[int], classes: int) -> Schema:
    """The schema of examples that came without one: numbers of `shape`, and one of two or more `classes`."""
    feature = Feature(name="x", dtype="float32", shape=list(shape))
    return Schema(features=[feature], label=Label(classes=classes))


def counts(schema: Schema, outputs: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """All that a client hands in about its examples x float32 [n, ...] with stored labels y: examples, loss_sum, sums."""
    wanted = targets(schema, x, y)
    return {
        "examples": float(len(x)),
        "loss_sum": float(losses(schema, outputs, wanted).sum()),
        **sums(schema, outputs, wanted),
    }


def _by_class(schema: Schema, outputs: np.ndarray) -> np.ndarray:
    """Probabilities [n, steps, classes]; a class label is one step."""
    return outputs.reshape(len(outputs), -1, schema.label.classes)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(probabilities, SMALLEST, 1.0).astype(np.float64))
