"""An estimator's weights as named float32 tensors, and as the dense layers that it computes with.

| estimator | tensors |
|---|---|
| linear | coef [k, features], intercept [k]; k = classes, 1 for two classes or a number |
| MLP | coefs_0 [features, units], intercepts_0 [units], coefs_1 ... |
"""

import itertools
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import SGDRegressor

from fededge.documents import Schema
from fededge.learning.frameworks.sklearn.work import Work
from fededge.weights import Shapes, Weights

ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
"""Keras's names of scikit-learn's activations."""


@dataclass(frozen=True)
class Dense:
    """activation(x @ kernel + bias); kernel float32 [in, out], bias float32 [out], activation by Keras's name."""

    kernel: np.ndarray
    bias: np.ndarray
    activation: str

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """float32 [n, out] of x float32 [n, in]."""
        z = x @ self.kernel + self.bias
        if self.activation == "relu":
            return np.maximum(z, 0)
        if self.activation == "tanh":
            return np.tanh(z)
        return 0.5 * (1 + np.tanh(0.5 * z)) if self.activation == "sigmoid" else z


def is_network(work: Work) -> bool:
    """Whether the estimator is a multilayer perceptron."""
    return work.estimator.startswith("MLP")


def shapes(work: Work, schema: Schema) -> Shapes:
    """Of the weights, by name, in the order in which they travel."""
    width = int(np.prod(schema.encoded_shape))
    outputs = 1 if _is_binary(schema) else schema.outputs
    if not is_network(work):
        return {"coef": (outputs, width), "intercept": (outputs,)}
    hidden = work.arguments.get("hidden_layer_sizes", [100])
    sizes = [width, *(hidden if isinstance(hidden, list) else [hidden]), outputs]
    found: Shapes = {}
    for number, (before, after) in enumerate(itertools.pairwise(sizes)):
        found |= {f"coefs_{number}": (before, after), f"intercepts_{number}": (after,)}
    return found


def initial(work: Work, schema: Schema, seed: int) -> Weights:
    """Zeros for linear estimators; else uniform as scikit-learn draws them.

    The bound is that of Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural
    networks, equation 16, with 2 in place of 6 for the logistic activation.
    """
    rng, made = np.random.default_rng(seed), {}
    factor = 2.0 if work.arguments.get("activation") == "logistic" else 6.0
    for name, shape in shapes(work, schema).items():
        if not is_network(work):
            made[name] = np.zeros(shape, np.float32)
            continue
        if len(shape) == 2:
            bound = np.sqrt(factor / sum(shape))
        made[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return made


def put(estimator: BaseEstimator, weights: Weights) -> None:
    """Give `estimator` a copy of `weights`, and let its optimizer begin anew."""
    own = {name: np.array(value, np.float32, order="C") for name, value in weights.items()}
    if "coef" in own:
        estimator.coef_ = own["coef"][0] if isinstance(estimator, SGDRegressor) else own["coef"]
        estimator.intercept_ = own["intercept"]
        return
    numbers = range(len(own) // 2)
    estimator.coefs_ = [own[f"coefs_{number}"] for number in numbers]
    estimator.intercepts_ = [own[f"intercepts_{number}"] for number in numbers]
    vars(estimator).pop("_optimizer", None)


def taken(estimator: BaseEstimator) -> Weights:
    """The weights of `estimator`, as they are: a step may change them in place."""
    if hasattr(estimator, "coefs_"):
        made: Weights = {}
        for number, pair in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
            made |= {f"coefs_{number}": pair[0], f"intercepts_{number}": pair[1]}
        return made
    return {"coef": np.atleast_2d(estimator.coef_), "intercept": estimator.intercept_}


def layers(work: Work, schema: Schema, weights: Weights) -> list[Dense]:
    """What computes raw outputs float32 [n, schema.outputs] of encoded, flat examples.

    A softmax of them gives an estimator's probabilities, where it has any: for two classes, of which scikit-learn keeps
    the second's logit alone, the first's is 0.
    """
    if is_network(work):
        inner = ACTIVATIONS[work.arguments.get("activation", "relu")]
        count = len(weights) // 2
        pairs = [(weights[f"coefs_{number}"], weights[f"intercepts_{number}"]) for number in range(count)]
    else:
        inner, pairs = "linear", [(weights["coef"].T, weights["intercept"])]
    kernel, bias = pairs[-1]
    if _is_binary(schema):
        pairs[-1] = np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    made = [Dense(kernel, bias, inner) for kernel, bias in pairs[:-1]]
    return [*made, Dense(*pairs[-1], "linear")]


def outputs(layers: list[Dense], x: np.ndarray) -> list[np.ndarray]:
    """What each of `layers` gives, float32 [n, units], for encoded examples x [n, ...]."""
    made, x = [], x.reshape(len(x), -1)
    for layer in layers:
        x = layer(x)
        made.append(x)
    return made


def _is_binary(schema: Schema) -> bool:
    return schema.label.kind == "class" and schema.label.classes == 2
