"""Metrics that a task names beyond the usual ones: of scikit-learn, Keras or torchmetrics, or the user's own.

A function takes (y_true, y_pred), or (y_true, y_score) where it asks for probabilities, and gives one number:

    class, sequence   int64 [n] (of a sequence: all steps, one after the other); probabilities [n, classes],
                      of two classes those of the second
    multi-label       int64 [n, classes], 0 or 1; probabilities alike
    number            float32 [n], or [n, outputs]
    none              the encoded features, float32 [n, outputs]
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fededge.errors import TaskError, shown
from fededge.learning import metric_classes
from fededge.learning.factories import load
from fededge.learning.figures import Answers

PROBABILITIES = frozenset({"y_score", "y_prob", "y_proba"})


def evaluate(name: str, answers: Answers, code: str | None = None) -> float:
    """The value of the metric `name`.

    Args:
        name: of a function in sklearn.metrics, keras.NAME or torchmetrics.NAME of a class there, or module:function.
        answers: that are scored.
        code: folder with the modules of a user's own function.

    Raises:
        TaskError: there is no such metric, or it does not score such answers.
    """
    score = _score(name, code)
    try:
        value = np.asarray(score(answers), np.float64)
    except Exception as error:  # the user's code may raise anything
        raise TaskError(
            f"metric {name} does not score labels of kind {answers.label.kind}: "
            f"{shown(f'{type(error).__name__}: {error}', 300)}. Name another metric"
        ) from error
    if value.shape or not math.isfinite(value):
        raise TaskError(
            f"metric {name} gave {shown(str(value))} where one finite number is expected: correct it"
        )
    return float(value)


def _score(name: str, code: str | None) -> Callable[[Answers], Any]:
    if name.startswith("keras.") and ":" not in name:
        return metric_classes.of_keras(name.removeprefix("keras."))
    if name.startswith("torchmetrics.") and ":" not in name:
        return metric_classes.of_torchmetrics(name.removeprefix("torchmetrics."))
    function = load(name, "metric", code) if ":" in name else _of_sklearn(name)
    return lambda answers: _of_function(name, function, answers)


def _of_function(name: str, function: Callable[..., Any], answers: Answers) -> Any:
    takes = _parameters(function)
    given: dict[str, Any] = {}
    several = answers.label.kind in ("class", "sequence") and answers.label.classes > 2
    if ":" not in name and "average" in takes and (several or answers.label.kind == "multi-label"):
        given["average"] = "macro"
    if not PROBABILITIES & set(takes[1:2]):
        predicted = answers.predicted
    else:
        predicted = answers.probabilities
        if several and "multi_class" in takes:
            given["multi_class"] = "ovr"
        if answers.label.kind == "class" and answers.label.classes == 2:
            predicted = predicted[:, 1]
    return function(answers.truth, predicted, **given)


def _of_sklearn(name: str) -> Callable[..., Any]:
    import sklearn.metrics

    found = getattr(sklearn.metrics, name, None)
    if name not in sklearn.metrics.__all__ or not callable(found) or _parameters(found)[:1] != ["y_true"]:
        raise TaskError(
            f"metric {shown(name)} is none of the usual ones for this label, and sklearn.metrics has no such "
            "function of (y_true, y_pred): name one of those, keras.NAME, torchmetrics.NAME, or your own as "
            "module:function"
        )
    return found


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
