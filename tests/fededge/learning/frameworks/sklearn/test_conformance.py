"""scikit-learn's estimators learn as every framework does, and as their own partial_fit."""

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fededge import examples
from fededge.encoding import encode, targets
from fededge.learning.streaming import training_blocks
from fededge.task import ClientOptimizer, Model
from fededge.weights import Weights
from tests.fededge.learning.frameworks.conformance import Conformance, schema_of

pytestmark = pytest.mark.environment("worker")


def model(name: str, **arguments: Any) -> Model:
    return Model(framework="sklearn", name=name, arguments=arguments)


class PartialFit(Conformance):
    """The estimators that learn batch by batch."""

    made: ClassVar[dict[str, Any]]
    """Arguments of the estimator beside those of the task."""

    def local(self, kind: str, weights: Weights, data: Path, seed: int) -> Weights:
        schema, named = schema_of(kind), self.models[kind]
        estimator = _class(named.name)(**named.arguments, **self.made, shuffle=False)
        classes = {"classes": np.arange(schema.label.classes)} if schema.label.classes else {}
        size, (x, y) = self.work.batch_size, examples.read(data)
        for encoded, goals in training_blocks(schema, x, y, seed, size, self.work.epochs):
            goals = goals[:, 0] if goals.ndim == 2 and goals.shape[1] == 1 else goals
            goals = goals.astype(np.int64) if schema.label.kind == "multi-label" else goals
            if not hasattr(estimator, "t_"):  # the first step makes the tensors
                estimator.partial_fit(encoded[:1], goals[:1], **classes)
                begin(estimator, weights)
            for at in range(0, len(encoded), size):
                estimator.partial_fit(encoded[at : at + size], goals[at : at + size])
        return learned(estimator)


def begin(estimator: Any, weights: Weights) -> None:
    if "coef" in weights:
        estimator.coef_ = weights["coef"].reshape(estimator.coef_.shape).copy()
        estimator.intercept_ = weights["intercept"].copy()
        return
    for number, pair in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        pair[0][:], pair[1][:] = weights[f"coefs_{number}"], weights[f"intercepts_{number}"]
    del estimator._optimizer


def learned(estimator: Any) -> Weights:
    if hasattr(estimator, "coef_"):
        return {"coef": np.atleast_2d(estimator.coef_), "intercept": estimator.intercept_}
    named = {f"coefs_{number}": value for number, value in enumerate(estimator.coefs_)}
    return named | {f"intercepts_{number}": value for number, value in enumerate(estimator.intercepts_)}


def _class(name: str | None) -> Any:
    from sklearn import linear_model, neural_network

    return getattr(linear_model, str(name), None) or getattr(neural_network, str(name))


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestSGDClassifier(PartialFit):
    models: ClassVar = {
        "class": model("SGDClassifier", loss="log_loss"),
        "two classes": model("SGDClassifier", loss="modified_huber"),
    }
    made: ClassVar = {"learning_rate": "constant", "eta0": 0.05}
    diverges = False  # its gradients are bounded


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestSGDRegressor(PartialFit):
    models: ClassVar = {"number": model("SGDRegressor")}
    made: ClassVar = {"learning_rate": "constant", "eta0": 0.05}


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestMLP(PartialFit):
    models: ClassVar = {
        "class": model("MLPClassifier", hidden_layer_sizes=[6, 5], activation="tanh"),
        "two classes": model("MLPClassifier", hidden_layer_sizes=[6]),
        "multi-label": model("MLPClassifier", hidden_layer_sizes=[6], activation="logistic"),
        "numbers": model("MLPRegressor", hidden_layer_sizes=[6]),
        "none": model("MLPRegressor", hidden_layer_sizes=[4], activation="identity"),
    }
    made: ClassVar = {"solver": "sgd", "learning_rate_init": 0.05, "batch_size": 8, "momentum": 0.0}


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestMLPWithAdam(PartialFit):
    models: ClassVar = {"number": model("MLPRegressor", hidden_layer_sizes=[6])}
    work = ClientOptimizer(batch_size=8, epochs=2, optimizer="adam", learning_rate=0.01)
    made: ClassVar = {"solver": "adam", "learning_rate_init": 0.01, "batch_size": 8}


class TestLogisticRegression(Conformance):
    models: ClassVar = {
        "class": model("LogisticRegression"),
        "two classes": model("LogisticRegression", C=0.5),
    }
    work = ClientOptimizer(epochs=3)
    shuffles = False
    diverges = False
    tolerance = 1e-4

    def local(self, kind: str, weights: Weights, data: Path, seed: int) -> Weights:
        schema, (x, y) = schema_of(kind), examples.read(data)
        estimator = _class("LogisticRegression")(**self.models[kind].arguments, warm_start=True, max_iter=3)
        estimator.coef_, estimator.intercept_ = weights["coef"].copy(), weights["intercept"].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(encode(schema, x), targets(schema, x, y))
        return {"coef": estimator.coef_, "intercept": estimator.intercept_}
