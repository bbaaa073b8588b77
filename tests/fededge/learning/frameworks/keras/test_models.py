"""The training model has the gradients of Keras's own layers and loss."""

from collections.abc import Callable

import numpy as np
import pytest

from fededge.learning.frameworks.keras import models
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("worker")


def test_gradients_are_those_of_keras_layers_and_loss(
    make_task: Callable[..., FederatedTask],
) -> None:
    import tensorflow as tf

    task = make_task(dropout=0.0)
    rng = np.random.default_rng(1)
    weights = {
        name: value + rng.normal(0, 0.05, value.shape).astype(np.float32)
        for name, value in models.initial_weights(task.model, task.seed).items()
    }
    image = tf.constant(rng.random((20, 28, 28, 1), np.float32))
    label = tf.constant(rng.integers(0, 10, 20))
    ours, stock = models.training_model(task.model), models.inference_model(task.model, weights)
    models.assign(ours, weights)
    assert ours.count_params() == stock.count_params() == 317_066
    with tf.GradientTape(persistent=True) as tape:
        logits = ours({"image": image, "seed": tf.zeros((20, 2), tf.int64)}, training=True)
        loss = models.CrossEntropy()(label, logits)
        expected_loss = tf.keras.losses.SparseCategoricalCrossentropy()(label, stock(image))
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-6)
    found = tape.gradient(loss, ours.trainable_variables)
    expected = tape.gradient(expected_loss, stock.trainable_variables)
    for name, one, other in zip(models.names(ours), found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)


def test_logits_that_are_not_finite_reach_the_gradient() -> None:
    import tensorflow as tf

    logits = tf.constant([[np.inf, 0.0, 0.0]], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = models.CrossEntropy()(tf.constant([1], tf.int64), logits)
    assert not np.isfinite(tape.gradient(loss, logits)).all()
