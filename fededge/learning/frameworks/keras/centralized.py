"""Centralized training, the comparison that paper 002 asks for: the same model on the pooled data.

It makes the same number of sample passes as the federated run, with the same client optimizer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fededge.learning.data import folders
from fededge.learning.evaluation import evaluate
from fededge.learning.frameworks.keras import models
from fededge.task import ClientOptimizer, FederatedTask


def train(
    task: FederatedTask, data: Path, test: Path, on_round: Callable[[int, dict[str, Any]], None]
) -> dict[str, Any]:
    """Train on all clients' examples together, pass by pass, and evaluate on held-out ones.

    A pass takes as many samples as a federated round with an average cohort; `on_round` gets its
    number and the evaluation after it.

    Returns:
        The last evaluation, with `passes` (round, accuracy and loss after each) and `samples`, the number
        of sample passes.
    """
    population = folders.population(data)
    clients = [client["id"] for client in population["clients"]]
    pairs = [folders.read(data / "clients" / client / "train") for client in clients]
    x, y = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    test_x, test_y = folders.read(test)
    learning = task.learning
    share = min(learning.cohort.size, len(clients)) / len(clients)
    steps = max(1, round(len(x) * share * learning.client.epochs / learning.client.batch_size))
    model = models.training_model(task)
    models.assign(model, models.initial_weights(task))
    optimizer = keras_optimizer(learning.client)
    cross_entropy = models.CrossEntropy()
    rng = np.random.default_rng([task.seed, 4])

    @tf.function
    def step(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = model({"image": image, "seed": seed}, training=True)
            loss = cross_entropy(label, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    order = np.empty(0, np.int64)
    result: dict[str, Any] = {}
    passes: list[dict[str, Any]] = []
    for number in range(1, learning.rounds + 1):
        for index in range(steps):
            if len(order) < learning.client.batch_size:
                order = np.concatenate([order, rng.permutation(len(x))])
            chosen, order = np.split(order, [learning.client.batch_size])
            seed = np.tile(np.array([task.seed, number * steps + index], np.int64), (len(chosen), 1))
            step(tf.constant(x[chosen]), tf.constant(y[chosen]), tf.constant(seed))
        weights = dict(zip(models.names(model), (v.numpy() for v in model.trainable_variables), strict=True))
        inference = models.inference_model(task, weights)
        result = evaluate(inference, test_x, test_y, population["classes"]) | {"round": number}
        passes.append({key: result[key] for key in ("round", "accuracy", "loss")})
        on_round(number, result)
    return result | {"passes": passes, "samples": learning.rounds * steps * learning.client.batch_size}


def keras_optimizer(work: ClientOptimizer) -> tf.keras.optimizers.Optimizer:
    """The client optimizer of the task, as Keras's own."""
    if work.optimizer == "adam":
        return tf.keras.optimizers.Adam(work.learning_rate)
    return tf.keras.optimizers.SGD(work.learning_rate)
