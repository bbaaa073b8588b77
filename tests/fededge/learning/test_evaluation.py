"""Evaluation, central and at each client; and centralized training."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples
from fededge.client_reports import EvaluationReport
from fededge.documents import ClientCounts, Evaluation, Feature, Label, Population, Schema
from fededge.errors import DataError, RoundError
from fededge.learning import centralized
from fededge.learning.engines import open_runtime
from fededge.learning.evaluation import evaluate_state, scorer
from fededge.learning.state import State
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("worker")


def at_start(prepared: Any, task: FederatedTask) -> State:
    return State(task.identity, 0, prepared.spec(task).initial_weights(), [])


def evaluated(prepared: Any, task: FederatedTask, clients: Path | None = None) -> Evaluation:
    x, y = examples.read(prepared.test)
    asked = prepared.population.clients
    with open_runtime(task.learning.engine, prepared.plan(task), clients or prepared.clients) as runtime:
        return evaluate_state(
            prepared.spec(task), at_start(prepared, task), x, y, prepared.population, asked, runtime, 120
        )


def test_sites_and_simulation_evaluate_alike(prepared: Any, make_task: Callable[..., FederatedTask]) -> None:
    first, second = (evaluated(prepared, make_task(engine=engine)) for engine in ("simulation", "federated"))
    for one, other in zip(first.clients, second.clients, strict=True):
        assert (one.id, one.examples) == (other.id, other.examples)
        assert one.score == pytest.approx(other.score)
        assert one.loss == pytest.approx(other.loss, rel=1e-4)


def test_the_score_of_a_round_is_that_of_its_evaluation(
    prepared: Any, make_task: Callable[..., FederatedTask]
) -> None:
    task = make_task(engine="simulation")
    score = scorer(prepared.spec(task), prepared.population.example, *examples.read(prepared.test))(
        at_start(prepared, task).weights
    )
    whole = evaluated(prepared, task)
    assert (score.score, score.loss, score.examples) == (whole.score, whole.loss, whole.examples)


def test_a_site_that_cannot_evaluate_is_left_out_with_its_reason(
    prepared: Any, make_task: Callable[..., FederatedTask], tmp_path: Path
) -> None:
    clients = tmp_path / "clients"
    shutil.copytree(prepared.clients, clients)
    (clients / "site-1" / "test" / "x.npy").write_bytes(b"no images")
    result = evaluated(prepared, make_task(), clients)
    assert [client.id for client in result.clients] == ["site-0", "site-2"]
    assert set(result.failed) == {"site-1"}
    shutil.rmtree(clients)
    with pytest.raises(RoundError, match="no client can evaluate the model"):
        evaluated(prepared, make_task(), clients)


class Claiming:
    """A runtime whose first client claims what it likes."""

    def __init__(self, claim: dict[str, Any]) -> None:
        self.claim = claim

    def evaluate(
        self, weights: object, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        honest = {"examples": 10, "correct": 5, "loss_sum": 2.0}
        for number, client in enumerate(clients):
            yield EvaluationReport(client, self.claim if number == 0 else honest)


@pytest.mark.parametrize(
    "claim",
    [
        {"examples": 1e30, "correct": 1, "loss_sum": 1},
        {"examples": 10, "correct": 11, "loss_sum": 1},
        {"examples": 10, "correct": 1, "loss_sum": float("inf")},
        {"examples": 10, "correct": float("nan"), "loss_sum": 1},
        {"examples": 10, "correct": -1, "loss_sum": 1},
        {"examples": "10", "correct": 1, "loss_sum": 1},
        {},
    ],
)
def test_counts_that_cannot_be_are_left_out(
    prepared: Any, make_task: Callable[..., FederatedTask], claim: dict[str, Any]
) -> None:
    task = make_task()
    x, y = examples.read(prepared.test)
    runtime: Any = Claiming(claim)
    asked = prepared.population.clients
    result = evaluate_state(
        prepared.spec(task), at_start(prepared, task), x[:5], y[:5], prepared.population, asked, runtime, 1
    )
    assert [client.id for client in result.clients] == ["site-1", "site-2"]
    assert "claims" in result.failed["site-0"]


def test_centralized_training_learns_with_as_many_samples(
    prepared: Any, make_task: Callable[..., FederatedTask]
) -> None:
    task = make_task(client={"batch_size": 20, "learning_rate": 0.05}, rounds=2)
    curve: list[float] = []
    where = (prepared.population, prepared.clients, prepared.test)
    result = centralized.train(
        prepared.spec(task), task.learning, task.seed, *where, lambda found: curve.append(found.score)
    )
    assert len(curve) == 2
    assert [row.score for row in result.passes] == curve
    assert result.score == curve[-1] > 0.5
    trained = sum(client.train for client in prepared.population.clients)
    assert result.samples == pytest.approx(2 * trained, abs=40)


def test_examples_of_clients_that_are_elsewhere_are_never_pooled(
    prepared: Any, make_task: Callable[..., FederatedTask]
) -> None:
    task = make_task()
    real = prepared.population.model_copy(update={"simulated": False})
    with pytest.raises(DataError, match="remove compare"):
        centralized.train(
            prepared.spec(task),
            task.learning,
            task.seed,
            real,
            prepared.clients,
            prepared.test,
            lambda found: None,
        )


NUMBER = Schema(features=[Feature(name="x", dtype="float32", shape=[1])], label=Label(kind="number"))


class Constant:
    """A model that answers 0 to everything."""

    def predict(self, weights: object, x: np.ndarray) -> np.ndarray:
        return np.zeros((len(x), 1), np.float32)


def test_clients_of_a_number_are_scored_by_sums_and_the_worst_are_told() -> None:
    ids = [f"site-{number:02d}" for number in range(20)]
    clients = [ClientCounts(id=name, train=10, test=10) for name in ids]
    population = Population(clients=clients, example=NUMBER, examples=400, simulated=True)
    sums = [{"squared_error": 0.5 * number, "target": 0.0, "target_squared": 10.0} for number in range(19)]
    sums.append({"squared_error": 1.0, "target": 100.0, "target_squared": 10.0})

    class Told:
        def evaluate(self, *asked: object) -> Iterator[EvaluationReport]:
            for name, told in zip(ids, sums, strict=True):
                yield EvaluationReport(name, {"examples": 10.0, "loss_sum": 5.0, **told})

    model: Any = Constant()
    runtime: Any = Told()
    state = State("sha256:" + "0" * 64, 0, {}, [])
    y = np.array([-1.0, 1.0], np.float32)
    x = np.zeros((2, 1), np.float32)
    result = evaluate_state(model, state, x, y, population, clients, runtime, 1)
    assert (result.metric, result.score, result.metrics["mae"]) == ("r2", 0.0, 1.0)
    assert [client.score for client in result.clients[:3]] == pytest.approx([1.0, 0.95, 0.9])
    assert result.worst_tenth == pytest.approx(0.1)
    assert result.spread == pytest.approx(np.std([client.score for client in result.clients]))
    assert "target 100" in result.failed["site-19"]
