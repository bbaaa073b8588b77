"""TFF's aggregation over update files, held against plain numpy."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fededge.learning.tff import worker as engine_worker
from fededge.learning.tff.aggregation import Aggregator, mean
from fededge.learning.tff.worker import Worker
from fededge.learning.update import Layout, Update
from fededge.task import ServerOptimizer

pytestmark = pytest.mark.environment("worker")
SHAPES = {"dense/bias": (3,), "dense/kernel": (4, 3)}
LAYOUT = Layout(SHAPES)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(60) as running:
        yield running


def made(count: int, folder: Path) -> tuple[list[Update], list[Path]]:
    rng = np.random.default_rng(count)
    updates = [
        Update({n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}, float(i % 7 + 1), 0, 0)
        for i in range(count)
    ]
    files = [folder / f"{i}" for i in range(count)]
    for update, file in zip(updates, files, strict=True):
        file.write_bytes(LAYOUT.encode(update))
    return updates, files


def zeros() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("count", [1, 5])
def test_sgd_with_rate_one_takes_the_weighted_mean(worker: Worker, tmp_path: Path, count: int) -> None:
    updates, files = made(count, tmp_path)
    aggregator = Aggregator(LAYOUT, ServerOptimizer(), worker)
    _, weights = aggregator.next(aggregator.initialize(), zeros(), files)
    for name, expected in mean(updates).items():
        np.testing.assert_allclose(weights[name], -expected, atol=1e-6)


def test_groups_of_clients_give_the_same_mean(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_worker, "SUBROUND_CLIENTS", 4)
    updates, files = made(11, tmp_path)
    aggregator = Aggregator(LAYOUT, ServerOptimizer(), worker)
    _, weights = aggregator.next(aggregator.initialize(), zeros(), files)
    for name, expected in mean(updates).items():
        np.testing.assert_allclose(weights[name], -expected, atol=1e-6)


def test_momentum_is_carried_in_the_state(worker: Worker, tmp_path: Path) -> None:
    updates, files = made(3, tmp_path)
    aggregator = Aggregator(LAYOUT, ServerOptimizer(learning_rate=0.5, momentum=0.9), worker)
    state, weights = aggregator.next(aggregator.initialize(), zeros(), files)
    _, weights = aggregator.next(state, weights, files)
    for name, step in mean(updates).items():
        np.testing.assert_allclose(weights[name], -0.5 * (step + (1.9 * step)), atol=1e-5)


@pytest.mark.parametrize(("optimizer", "second_moment"), [("adam", 0.001), ("yogi", None)])
def test_adaptive_server_optimizers_follow_their_rule(
    worker: Worker, tmp_path: Path, optimizer: str, second_moment: float | None
) -> None:
    updates, files = made(3, tmp_path)
    server = ServerOptimizer(optimizer=optimizer, learning_rate=0.1)  # type: ignore[arg-type]
    aggregator = Aggregator(LAYOUT, server, worker)
    _, weights = aggregator.next(aggregator.initialize(), zeros(), files)
    for name, gradient in mean(updates).items():
        if second_moment is not None:  # the first step of Adam is the sign of the gradient
            np.testing.assert_allclose(weights[name], -0.1 * np.sign(gradient), atol=1e-3)
        else:
            assert (np.sign(weights[name]) == -np.sign(gradient)).all()


def test_a_restored_state_goes_on_bit_for_bit(worker: Worker, tmp_path: Path) -> None:
    _, files = made(3, tmp_path)
    server = ServerOptimizer(optimizer="yogi", learning_rate=0.1)
    first = Aggregator(LAYOUT, server, worker)
    state, weights = first.next(first.initialize(), zeros(), files)
    _, whole = first.next(state, weights, files)
    restored = Aggregator(LAYOUT, server, worker)
    _, again = restored.next([np.array(leaf) for leaf in state], dict(weights), files)
    assert all(whole[name].tobytes() == again[name].tobytes() for name in SHAPES)
