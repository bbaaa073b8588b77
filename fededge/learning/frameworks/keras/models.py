"""Keras models by the name that a task gives, for training and for inference.

Weights are float32 tensors by variable name ("conv1/kernel"), in the order of the model's variables.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["WRAPT_DISABLE_EXTENSIONS"] = "true"

import numpy as np
import tensorflow as tf

from fededge.learning.models import cnn
from fededge.task import Model
from fededge.weights import Weights


class CrossEntropy(tf.keras.losses.Loss):
    """Softmax cross-entropy of logits float32 [b, classes] against labels int64 [b].

    Its gradient comes from TensorFlow's softmax, not from the exponential inside the fused operation:
    TFF's worker is a build of TensorFlow of its own, which rounds that exponential another way, and
    training amplifies such a last bit. So a client's work has the same bits in either engine.
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """The loss of each example, float32 [b]."""
        return _cross_entropy(y_pred, y_true)


@tf.custom_gradient
def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        target = tf.one_hot(labels, tf.shape(logits)[-1])
        return upstream[:, tf.newaxis] * (tf.nn.softmax(logits) - target), None

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), gradient


def training_model(model: Model) -> tf.keras.Model:
    """A model with dropout that gives logits, for a client's work; its weights are Keras's own until assigned."""
    return cnn.training_model(model.dropout)


def inference_model(model: Model, weights: Weights | None = None) -> tf.keras.Model:
    """The model without dropout, float32 [b, ...] to scores float32 [b, classes]; it holds `weights`, if given."""
    made = cnn.inference_model()
    if weights is not None:
        assign(made, weights)
    return made


def activations(model: tf.keras.Model) -> dict[str, tf.keras.layers.Layer]:
    """The layers whose outputs are activations, by names that are the same in each process."""
    layers = [layer for layer in model.layers if not isinstance(layer, tf.keras.layers.InputLayer)]
    return {f"{number}/{type(layer).__name__}": layer for number, layer in enumerate(layers, 1)}


def names(model: tf.keras.Model) -> list[str]:
    """Variable names without Keras's ":0"."""
    return [variable.name.removesuffix(":0") for variable in model.trainable_variables]


def initial_weights(model: Model, seed: int) -> Weights:
    """The weights before the first round: Glorot-uniform kernels, zero biases; same seed, same bits.

    They are drawn by numpy, so that no random state of TensorFlow is touched: its global seed would
    reach into the shuffling of client data.
    """
    rng = np.random.default_rng([seed, 5])
    made = inference_model(model)
    weights = {}
    for name, variable in zip(names(made), made.trainable_variables, strict=True):
        shape = tuple(variable.shape)
        if name.endswith("/bias"):
            weights[name] = np.zeros(shape, np.float32)
            continue
        window = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (window * (shape[-2] + shape[-1])))
        weights[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return weights


def assign(model: tf.keras.Model, weights: Weights) -> None:
    """Put named `weights` into `model`."""
    for name, variable in zip(names(model), model.trainable_variables, strict=True):
        variable.assign(np.asarray(weights[name]))
