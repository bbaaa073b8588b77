"""TFF's aggregation over update files, held against plain numpy."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fededge.learning.tff import worker as engine_worker
from fededge.learning.tff.aggregation import MeanAggregator, mean
from fededge.learning.tff.worker import Worker
from fededge.task import ServerOptimizer
from fededge.update import Update, UpdateFormat

pytestmark = pytest.mark.environment("worker")
SHAPES = {"dense/bias": (3,), "dense/kernel": (4, 3)}
FORM = UpdateFormat(SHAPES, "class")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(60) as running:
        yield running


def made(count: int, folder: Path) -> tuple[list[Update], list[str]]:
    rng = np.random.default_rng(count)
    updates = [
        Update(
            {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()},
            float(i % 7 + 1),
            0.0,
            {"correct": 1.0},
        )
        for i in range(count)
    ]
    files = [str(folder / f"{i}") for i in range(count)]
    for update, file in zip(updates, files, strict=True):
        Path(file).write_bytes(FORM.encode(update))
    return updates, files


def zeros() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("count", [1, 5])
def test_sgd_with_rate_one_takes_the_weighted_mean(worker: Worker, tmp_path: Path, count: int) -> None:
    updates, files = made(count, tmp_path)
    aggregator = MeanAggregator(FORM, (), ServerOptimizer(), worker)
    _, weights, _ = aggregator.next(aggregator.initialize(), zeros(), files)
    for name, expected in mean(updates).items():
        np.testing.assert_allclose(weights[name], -expected, atol=1e-6)


def test_groups_of_clients_give_the_same_mean(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_worker, "SUBROUND_CLIENTS", 4)
    updates, files = made(11, tmp_path)
    aggregator = MeanAggregator(FORM, (), ServerOptimizer(), worker)
    _, weights, _ = aggregator.next(aggregator.initialize(), zeros(), files)
    for name, expected in mean(updates).items():
        np.testing.assert_allclose(weights[name], -expected, atol=1e-6)


def test_momentum_is_carried_in_the_state(worker: Worker, tmp_path: Path) -> None:
    updates, files = made(3, tmp_path)
    aggregator = MeanAggregator(FORM, (), ServerOptimizer(learning_rate=0.5, momentum=0.9), worker)
    state, weights, _ = aggregator.next(aggregator.initialize(), zeros(), files)
    _, weights, _ = aggregator.next(state, weights, files)
    for name, step in mean(updates).items():
        np.testing.assert_allclose(weights[name], -0.5 * (step + (1.9 * step)), atol=1e-5)


def adaptive(optimizer: str, gradients: list[np.ndarray], rate: float) -> np.ndarray:
    """Where steps along `gradients` lead from zero, in float64, by the published rules.

    Adam: Kingma and Ba 2015, Adam: A Method for Stochastic Optimization, Algorithm 1. Yogi: Zaheer, Reddi,
    Sachan, Kale and Kumar 2018, Adaptive Methods for Nonconvex Optimization, Algorithm 2, with Adam's bias
    correction. Constants are TFF's defaults.
    """
    beta1, beta2 = 0.9, 0.999
    epsilon = {"adam": 1e-7, "yogi": 1e-3}[optimizer]
    weight, first = np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    second = np.full_like(gradients[0], {"adam": 0.0, "yogi": 1e-6}[optimizer])
    for step, gradient in enumerate(gradients, 1):
        squared = gradient**2
        first = beta1 * first + (1 - beta1) * gradient
        if optimizer == "adam":
            second = beta2 * second + (1 - beta2) * squared
        else:
            second = second - (1 - beta2) * np.sign(second - squared) * squared
        corrected = rate * np.sqrt(1 - beta2**step) / (1 - beta1**step)
        weight = weight - corrected * first / (np.sqrt(second) + epsilon)
    return weight


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_adaptive_server_optimizers_follow_the_published_rule(
    worker: Worker, tmp_path: Path, optimizer: str
) -> None:
    server = ServerOptimizer(optimizer=optimizer, learning_rate=0.1)  # type: ignore[arg-type]
    aggregator = MeanAggregator(FORM, (), server, worker)
    state, weights = aggregator.initialize(), zeros()
    gradients: list[dict[str, np.ndarray]] = []
    for count in (3, 2, 4):
        (tmp_path / str(count)).mkdir()
        updates, files = made(count, tmp_path / str(count))
        state, weights, _ = aggregator.next(state, weights, files)
        gradients.append(mean(updates))
    for name in SHAPES:
        expected = adaptive(optimizer, [each[name].astype(np.float64) for each in gradients], 0.1)
        np.testing.assert_allclose(weights[name], expected, atol=2e-5)


def test_a_restored_state_goes_on_bit_for_bit(worker: Worker, tmp_path: Path) -> None:
    _, files = made(3, tmp_path)
    server = ServerOptimizer(optimizer="yogi", learning_rate=0.1)
    first = MeanAggregator(FORM, (), server, worker)
    state, weights, _ = first.next(first.initialize(), zeros(), files)
    _, whole, _ = first.next(state, weights, files)
    restored = MeanAggregator(FORM, (), server, worker)
    _, again, _ = restored.next([np.array(leaf) for leaf in state], dict(weights), files)
    assert all(whole[name].tobytes() == again[name].tobytes() for name in SHAPES)


def test_moving_statistics_are_averaged_whatever_the_server_optimizer(worker: Worker, tmp_path: Path) -> None:
    updates, files = made(4, tmp_path)
    server = ServerOptimizer(optimizer="adam", learning_rate=0.1)
    aggregator = MeanAggregator(FORM, ["dense/bias"], server, worker)
    _, weights, told = aggregator.next(aggregator.initialize(), zeros(), files)
    expected = mean(updates)
    np.testing.assert_allclose(weights["dense/bias"], -expected["dense/bias"], atol=1e-6)
    np.testing.assert_allclose(np.abs(weights["dense/kernel"]), 0.1, atol=1e-3)
    assert told == {"examples": 10.0, "metrics/correct": 4.0, "metrics/loss_sum": 0.0}
