"""A round's work of a scikit-learn client: partial_fit batch by batch, or a warm-started fit."""

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from fededge.documents import Schema
from fededge.encoding import answers
from fededge.errors import DivergedError, shown
from fededge.learning.frameworks.sklearn.weights import layers, outputs, put, taken
from fededge.learning.frameworks.sklearn.work import Work, primed, quiet, wanted
from fededge.learning.streaming import blocks, training_blocks
from fededge.learning.tally import Tally
from fededge.update import Update
from fededge.weights import Weights


def train(work: Work, schema: Schema, weights: Weights, x: np.ndarray, y: np.ndarray, seed: int) -> Update:
    """From the global `weights` to the update after `work` on stored examples x [n, ...] with labels y.

    Raises:
        DivergedError: training left the finite numbers.
    """
    estimator, tally = work.make(), Tally(schema)
    # examples.read has proved the numbers finite, and work.of the arguments.
    with sklearn.config_context(assume_finite=True), quiet(), threadpool_limits(1):
        try:
            if work.estimator == "LogisticRegression":
                _fit(estimator, work, schema, weights, x, y, tally)
            else:
                _steps(estimator, work, schema, weights, x, y, seed, tally)
        except ValueError as error:
            raise DivergedError(
                f"local training ended with: {shown(str(error), 200)}. Lower learning.client.learning_rate"
            ) from error
    after = taken(estimator)
    if not all(np.isfinite(value).all() for value in after.values()):
        raise DivergedError("local training diverged to NaN or infinity: lower learning.client.learning_rate")
    return tally.update({name: (value - after[name]).astype(np.float32) for name, value in weights.items()})


def _steps(
    estimator: BaseEstimator,
    work: Work,
    schema: Schema,
    weights: Weights,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    tally: Tally,
) -> None:
    """partial_fit on one batch after another, from the global weights and with a new optimizer."""
    put(primed(estimator, schema), weights)
    client = work.client
    for encoded, targets in training_blocks(schema, x, y, seed, client.batch_size, client.epochs):
        flat, goals = encoded.reshape(len(encoded), -1), wanted(schema, targets)
        raw = np.empty((len(flat), schema.outputs), np.float32)
        for start in range(0, len(flat), client.batch_size):
            batch = slice(start, start + client.batch_size)
            raw[batch] = outputs(layers(work, schema, taken(estimator)), flat[batch])[-1]
            estimator.partial_fit(flat[batch], goals[batch])
        tally.add(answers(schema, raw), targets)


def _fit(
    estimator: BaseEstimator,
    work: Work,
    schema: Schema,
    weights: Weights,
    x: np.ndarray,
    y: np.ndarray,
    tally: Tally,
) -> None:
    """At most `epochs` iterations of L-BFGS over all examples, which are held in memory, from the global weights.

    What is counted is the global weights' answers. An example without weight stands for each class, so that the
    estimator knows those of which the client has none.
    """
    put(estimator, weights)
    before = layers(work, schema, weights)
    parts = [(block.reshape(len(block), -1), targets) for block, targets in blocks(schema, x, y)]
    for _ in range(work.client.epochs):
        for flat, targets in parts:
            tally.add(answers(schema, outputs(before, flat)[-1]), targets)
    classes = schema.label.classes
    flat = np.concatenate(
        [*(part for part, _ in parts), np.zeros((classes, parts[0][0].shape[1]), np.float32)]
    )
    goals = np.concatenate([*(targets for _, targets in parts), np.arange(classes)])
    estimator.fit(flat, goals, np.append(np.ones(len(x)), np.zeros(classes)))
