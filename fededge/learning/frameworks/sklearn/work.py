"""What a scikit-learn client does, as JSON: an estimator by its name, its arguments, and the work of a round.

The section `learning.client` drives an estimator. What it says, or what a round starts anew, is no argument:

| estimator | learning_rate | optimizer | batch_size | epochs |
|---|---|---|---|---|
| SGDClassifier, SGDRegressor | eta0, constant | sgd: a step for each example | examples handed over together | passes |
| MLPClassifier, MLPRegressor | learning_rate_init | sgd, adam | of a step | passes |
| LogisticRegression | - | - | - | max_iter of L-BFGS over all examples |
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fededge.documents import Schema
from fededge.documents.base import Document
from fededge.errors import TaskError, shown
from fededge.learning import factories
from fededge.task import ClientOptimizer, Model

_SGD = ("loss", "penalty", "alpha", "l1_ratio", "fit_intercept", "epsilon")
_MLP = ("hidden_layer_sizes", "activation", "alpha", "momentum", "nesterovs_momentum")
_ADAM = ("beta_1", "beta_2", "epsilon")
ESTIMATORS: dict[str, tuple[type[BaseEstimator], tuple[str, ...], tuple[str, ...]]] = {
    "SGDClassifier": (SGDClassifier, _SGD, ("class",)),
    "SGDRegressor": (SGDRegressor, _SGD, ("number",)),
    "MLPClassifier": (MLPClassifier, _MLP + _ADAM, ("class", "multi-label")),
    "MLPRegressor": (MLPRegressor, _MLP + _ADAM, ("number", "none")),
    "LogisticRegression": (LogisticRegression, ("penalty", "C", "fit_intercept", "tol"), ("class",)),
}
"""By name: the class, the arguments that a task may give, and the kinds of label that it learns."""


class Work(Document):
    """A client's work, beside plan.json."""

    KIND: ClassVar = "sklearn-work"
    REMEDY: ClassVar = "Run initialize_model again (`fededge run --fresh`)"

    estimator: str
    arguments: dict[str, Any]
    client: ClientOptimizer

    def make(self) -> BaseEstimator:
        """The estimator, driven by the work, without weights.

        Raises:
            TaskError: no such estimator, or an argument that it does not take here.
        """
        kind, allowed, _ = _known(self.estimator)
        if wrong := sorted(set(self.arguments) - set(allowed)):
            raise TaskError(
                f"model.arguments.{wrong[0]} is nothing that {self.estimator} takes here: it takes {', '.join(allowed)}; "
                "steps, passes and seeds are of learning.client and seed"
            )
        client, name = self.client, self.estimator
        if name == "LogisticRegression":
            return kind(**self.arguments, solver="lbfgs", warm_start=True, max_iter=client.epochs)
        if name.startswith("SGD"):
            driven = {"learning_rate": "constant", "eta0": client.learning_rate}
        else:
            driven = {
                "solver": client.optimizer,
                "learning_rate_init": client.learning_rate,
                "batch_size": client.batch_size,
            }
            driven |= {} if "momentum" in self.arguments else {"momentum": 0.0}
        return kind(**self.arguments, **driven, shuffle=False, random_state=0)


def of(model: Model, schema: Schema, client: ClientOptimizer) -> Work:
    """The work of a task's model for examples of `schema`.

    Raises:
        TaskError: no such estimator, arguments that it does not take, a label that it does not learn, or client work
            that it cannot honor.
    """
    work = _named(model, schema, client)
    _check_label(work.estimator, schema)
    _check_client(work.estimator, client)
    try:
        with quiet():
            primed(work.make(), schema)
    except (ValueError, TypeError) as error:
        raise TaskError(
            f"model {model.shown} refuses its arguments: {shown(str(error), 300)}. Correct model.arguments"
        ) from error
    return work


def primed(estimator: BaseEstimator, schema: Schema) -> BaseEstimator:
    """`estimator` after a step on an example of zeros: it knows features and classes.

    Raises:
        ValueError, TypeError: an argument has a value that it does not take.
    """
    width, label = int(np.prod(schema.encoded_shape)), schema.label
    x = np.zeros((1, width), np.float32)
    if isinstance(estimator, LogisticRegression):
        return estimator.fit(np.zeros((label.classes, width), np.float32), np.arange(label.classes))
    if label.kind == "class":
        return estimator.partial_fit(x, np.zeros(1, np.int64), classes=np.arange(label.classes))
    if label.kind == "multi-label":
        y = np.zeros((1, label.classes), np.int64)
        return estimator.partial_fit(x, y, classes=np.arange(label.classes))
    return estimator.partial_fit(x, wanted(schema, np.zeros((1, schema.outputs), np.float32)))


def wanted(schema: Schema, targets: np.ndarray) -> np.ndarray:
    """Targets (`fededge.encoding.targets`) in the form that an estimator takes."""
    if schema.label.kind == "multi-label":
        return targets.astype(np.int64)
    return targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of batches that are smaller and of fits that did not converge: both are meant."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _known(name: str) -> tuple[type[BaseEstimator], tuple[str, ...], tuple[str, ...]]:
    if name not in ESTIMATORS:
        raise TaskError(
            f"{shown(name)} is no estimator that learns from many clients: use {', '.join(ESTIMATORS)}"
        )
    return ESTIMATORS[name]


def _named(model: Model, schema: Schema, client: ClientOptimizer) -> Work:
    if model.factory is None:
        if model.name is None:
            raise TaskError(f"model.framework sklearn needs model.name: use {', '.join(ESTIMATORS)}")
        name, arguments = model.name, dict(model.arguments)
    else:
        made = factories.make(factories.load(model.factory, "model.factory", model.code), model, schema)
        name = type(made).__name__
        if type(made) is not _known(name)[0]:
            raise TaskError(f"model {model.shown} gives a {name} of its own: give back one of scikit-learn's")
        defaults = type(made)().get_params()
        arguments = {key: value for key, value in made.get_params().items() if value != defaults[key]}
    if model.loss is not None:
        if "loss" not in _known(name)[1]:
            raise TaskError(f"model.loss {model.loss}: {name} has its own loss; remove model.loss")
        arguments["loss"] = model.loss
    try:
        arguments = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"arguments of {model.shown} are not JSON: {shown(str(error))}. Give numbers, texts and lists"
        ) from error
    return Work(estimator=name, arguments=arguments, client=client)


def _check_label(name: str, schema: Schema) -> None:
    label, kinds = schema.label, _known(name)[2]
    if label.kind not in kinds:
        raise TaskError(
            f"model {name} learns labels of kind {' or '.join(kinds)}, not {label.kind}: use "
            f"{_suggested(label.kind)}"
        )
    if name == "SGDRegressor" and schema.outputs != 1:
        raise TaskError(f"model SGDRegressor gives one number, not {schema.outputs}: use MLPRegressor")
    if label.kind == "multi-label" and label.classes < 2:
        raise TaskError("a multi-label of one class: give it as a label of kind class with two")


def _suggested(kind: str) -> str:
    return " or ".join(name for name, (_, _, kinds) in ESTIMATORS.items() if kind in kinds) or "Keras"


def _check_client(name: str, client: ClientOptimizer) -> None:
    if client.device == "cuda":
        raise TaskError(
            f"learning.client.device cuda goes with no {name}, which computes on the CPU: remove it"
        )
    usual = ClientOptimizer()
    refused = {
        "LogisticRegression": ("optimizer", "learning_rate", "batch_size"),
        "SGDClassifier": ("optimizer",),
        "SGDRegressor": ("optimizer",),
    }
    for key in refused.get(name, ()):
        if getattr(client, key) != getattr(usual, key):
            raise TaskError(
                f"learning.client.{key} {getattr(client, key)} goes with no {name}, which has its own: remove it, or use "
                "MLPClassifier or MLPRegressor"
            )
