"""Centralized training, for comparison: the same model on the pooled data of a simulated population.

It makes the same number of sample passes as the federated run, with the same client optimizer.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from fededge import examples
from fededge.documents import Evaluation, Pass, Population
from fededge.errors import DataError
from fededge.learning.evaluation import evaluate
from fededge.learning.frameworks.keras import models
from fededge.learning.frameworks.keras.spec import KerasModel
from fededge.task import ClientOptimizer, Learning, Model


def train(
    model: Model,
    learning: Learning,
    seed: int,
    population: Population,
    clients: Path,
    test: Path,
    on_pass: Callable[[Evaluation], None],
) -> Evaluation:
    """Train on all clients' examples together, pass by pass, and evaluate on held-out ones.

    A pass takes as many samples as a federated round with an average cohort; `on_pass` gets the evaluation
    after it.

    Args:
        model: what is trained.
        learning: the algorithm that it is compared with.
        seed: of the task.
        population: must be simulated.
        clients: folder with one folder for each client.
        test: folder with held-out examples.
        on_pass: told of each pass.

    Returns:
        The last evaluation, with all passes.

    Raises:
        DataError: the population is not simulated: its examples must stay where they are.
    """
    if not population.simulated:
        raise DataError(
            "clients' examples may be pooled only where the population is simulated: remove compare.centralized"
        )
    names = [client.id for client in population.clients]
    pairs = [examples.read(clients / name / "train") for name in names]
    x, y = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    test_x, test_y = examples.read(test)
    spec = KerasModel(model)
    share = min(learning.cohort.size, len(names)) / len(names)
    steps = max(1, round(len(x) * share * learning.client.epochs / learning.client.batch_size))
    trained = models.training_model(model)
    models.assign(trained, spec.initial_weights(seed))
    optimizer = keras_optimizer(learning.client)
    cross_entropy = models.CrossEntropy()
    rng = np.random.default_rng([seed, 4])

    @tf.function
    def step(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = trained({"image": image, "seed": seed}, training=True)
            loss = cross_entropy(label, logits)
        gradients = tape.gradient(loss, trained.trainable_variables)
        optimizer.apply_gradients(zip(gradients, trained.trainable_variables, strict=True))

    passes: list[Pass] = []
    order = np.empty(0, np.int64)
    for number in range(1, learning.rounds + 1):
        for index in range(steps):
            if len(order) < learning.client.batch_size:
                order = np.concatenate([order, rng.permutation(len(x))])
            chosen, order = np.split(order, [learning.client.batch_size])
            draws = np.tile(np.array([seed, number * steps + index], np.int64), (len(chosen), 1))
            step(tf.constant(x[chosen]), tf.constant(y[chosen]), tf.constant(draws))
        variables = (variable.numpy() for variable in trained.trainable_variables)
        weights = dict(zip(models.names(trained), variables, strict=True))
        samples = number * steps * learning.client.batch_size
        scores = spec.predict(weights, test_x)
        result = evaluate(scores, test_y, population.example.label, round=number, samples=samples)
        passes.append(Pass(round=number, score=result.score, loss=result.loss))
        on_pass(result)
    return result.model_copy(update={"passes": passes})


def keras_optimizer(work: ClientOptimizer) -> tf.keras.optimizers.Optimizer:
    """The client optimizer of the task, as Keras's own."""
    if work.optimizer == "adam":
        return tf.keras.optimizers.Adam(work.learning_rate)
    return tf.keras.optimizers.SGD(work.learning_rate)
