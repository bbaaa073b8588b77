"""Metrics that Keras and torchmetrics have as classes: keras.AUC, torchmetrics.MatthewsCorrCoef.

What a class is given follows from the label, as these libraries expect it:

    class, sequence   of two classes, and where only numbers 0 and 1 will do, the probability of the second; else
                      probabilities [n, classes], beside classes int64 [n] (torchmetrics and Keras's Sparse...) or
                      beside one-hot float32 [n, classes] (Keras)
    multi-label       probabilities [n, classes], beside 0 or 1
    number, none      what the model gives, beside what was wanted
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fededge.errors import TaskError, shown
from fededge.learning.figures import Answers

CLASSES = ("class", "sequence")
ONE_HOT = ("Categorical", "TopK", "F1Score", "FBetaScore")
"""Keras's metrics whose names begin so take one-hot classes also where there are two."""
Score = Callable[[Answers], Any]


def of_keras(name: str) -> Score:
    """The metric that tf.keras.metrics calls `name`.

    Raises:
        TaskError: there is none.
    """
    import tensorflow as tf

    kind = _class(tf.keras.metrics, tf.keras.metrics.Metric, f"keras.{name}", name)

    def score(answers: Answers) -> Any:
        metric = kind(**({"average": "macro"} if "average" in _parameters(kind) else {}))
        metric.update_state(*_for_keras(name, answers))
        return metric.result().numpy()

    return score


def of_torchmetrics(name: str) -> Score:
    """The metric that torchmetrics calls `name`, such as AUROC or classification.MulticlassAUROC.

    Raises:
        TaskError: there is none, or torchmetrics is not installed.
    """
    try:
        import torch
        import torchmetrics
        import torchmetrics.classification
        import torchmetrics.regression
    except ImportError as error:
        raise TaskError(
            f"metric torchmetrics.{name} needs torchmetrics in the worker environment: pip install torchmetrics"
        ) from error
    room, _, last = f"torchmetrics.{name}".rpartition(".")
    kind = _class(sys.modules.get(room), torchmetrics.Metric, f"torchmetrics.{name}", last)

    def score(answers: Answers) -> Any:
        label, takes = answers.label, _parameters(kind)
        two = label.kind in CLASSES and label.classes == 2
        binary = two and ("task" in takes or last.startswith("Binary"))
        known = {
            "task": "multilabel" if label.kind == "multi-label" else "binary" if binary else "multiclass",
            "num_classes": label.classes,
            "num_labels": label.classes,
        }
        predicted = answers.probabilities if label.classes else answers.predicted
        metric = kind(**{key: value for key, value in known.items() if key in takes})
        given = predicted[:, 1] if binary else predicted
        metric.update(torch.from_numpy(np.array(given)), torch.from_numpy(np.array(answers.truth)))
        return metric.compute().numpy()

    return score


def _for_keras(name: str, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    label, truth = answers.label, answers.truth
    if not label.classes or name == "Accuracy":
        return truth, answers.predicted
    if label.kind not in CLASSES or name.startswith("Sparse"):
        return truth, answers.probabilities
    if label.classes == 2 and not name.startswith(ONE_HOT):
        return truth[:, None], answers.probabilities[:, 1:]
    return np.eye(label.classes, dtype=np.float32)[truth], answers.probabilities


def _class(room: Any, base: type, named: str, name: str) -> Any:
    found = getattr(room, name, None)
    if not inspect.isclass(found) or not issubclass(found, base):
        raise TaskError(f"metric {shown(named)}: there is no such class of metrics. Correct the name")
    return found


def _parameters(kind: Any) -> frozenset[str]:
    """Of the class's __new__, where it has one of its own, which then chooses among classes, or its __init__."""
    makes = kind.__new__ if kind.__new__ not in (object.__new__, kind.__mro__[1].__new__) else kind.__init__
    return frozenset(inspect.signature(makes).parameters)
