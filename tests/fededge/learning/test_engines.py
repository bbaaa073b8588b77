"""Both engines give the same weights, and a killed run goes on to the same bits."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from fededge.client_reports import TrainingReport, Usage
from fededge.documents import ClientCounts, Plan
from fededge.errors import DivergedError, QuorumError
from fededge.fleet.selection import Selector, select
from fededge.learning.checkpoints import Checkpoints
from fededge.learning.data.folders import client_names
from fededge.learning.engines import open_engine
from fededge.learning.federated import FederatedEngine
from fededge.learning.rounds import run_rounds
from fededge.learning.state import State
from fededge.task import FederatedTask
from fededge.update import Update, UpdateFormat
from fededge.weights import Weights

pytestmark = pytest.mark.environment("worker")
KEY = bytes(32)


def run(
    prepared: Any, task: FederatedTask, folder: Path, rounds: int = 2, on_round: Any = lambda record: None
) -> State:
    state = State(task.identity, 0, prepared.spec(task).initial_weights(), [])
    selection = select(task.learning.cohort, task.seed, prepared.population)
    with open_engine(
        task.model,
        task.learning,
        task.operation,
        task.seed,
        prepared.plan(task),
        prepared.clients,
    ) as engine:
        checkpoints = Checkpoints(str(folder), "run-1", KEY)
        selector = Selector(selection, lambda: client_names(prepared.clients))
        return run_rounds(engine, selector, state, rounds, checkpoints, on_round=on_round)


OPTIMIZERS = pytest.mark.parametrize(
    ("client", "server", "dropout"),
    [
        ({"epochs": 2}, {"optimizer": "sgd", "momentum": 0.9}, 0.0),
        ({}, {"optimizer": "sgd"}, 0.25),
        ({"optimizer": "adam", "learning_rate": 0.001}, {"optimizer": "yogi", "learning_rate": 0.01}, 0.0),
    ],
    ids=["sgd-momentum", "sgd-dropout", "adam-yogi"],
)


def assert_engines_agree(
    prepared: Any, make_task: Callable[..., FederatedTask], folder: Path, rounds: int, **changes: Any
) -> None:
    states = []
    for engine in ("simulation", "federated"):
        states.append(run(prepared, make_task(engine=engine, **changes), folder / engine, rounds))
    for name, value in states[0].weights.items():
        np.testing.assert_allclose(value, states[1].weights[name], rtol=0, atol=1e-5)
    for first, second in zip(states[0].history, states[1].history, strict=True):
        for key in ("examples", "loss", "score"):
            assert getattr(first, key) == pytest.approx(getattr(second, key), rel=1e-4)
    assert states[1].history[0].bytes_received > 3 * 4 * 317_066


@OPTIMIZERS
def test_simulation_and_federated_give_the_same_weights_after_a_few_steps(
    prepared: Any, make_task: Any, tmp_path: Path, client: Any, server: Any, dropout: float
) -> None:
    client = {"batch_size": 200, **client}
    assert_engines_agree(prepared, make_task, tmp_path, 1, client=client, server=server, dropout=dropout)


@pytest.mark.slow
@pytest.mark.skipif(
    "avx512f" not in Path("/proc/cpuinfo").read_text(),
    reason="TFF's worker is a build of TensorFlow of its own: its kernels round as the wheel's do with AVX-512 only",
)
@OPTIMIZERS
def test_simulation_and_federated_give_the_same_weights_after_many_steps(
    prepared: Any, make_task: Any, tmp_path: Path, client: Any, server: Any, dropout: float
) -> None:
    # Over a hundred small steps a client: training would amplify one differing bit far above 1e-5.
    client = {"batch_size": 16, **client}
    assert_engines_agree(prepared, make_task, tmp_path, 3, client=client, server=server, dropout=dropout)


@pytest.mark.parametrize("engine", ["federated", "simulation"])
def test_the_same_task_gives_the_same_bits_with_dropout(
    prepared: Any, make_task: Callable[..., FederatedTask], tmp_path: Path, engine: str
) -> None:
    task = make_task(engine=engine)
    first = run(prepared, task, tmp_path, 1)
    second = run(prepared, task, tmp_path / "again", 1)
    assert all(first.weights[n].tobytes() == second.weights[n].tobytes() for n in first.weights)


def test_a_simulated_client_that_diverges_fails_the_round(
    prepared: Any, make_task: Callable[..., FederatedTask], tmp_path: Path
) -> None:
    task = make_task(engine="simulation", client={"batch_size": 100, "learning_rate": 1e30})
    with pytest.raises(DivergedError, match="learning_rate"):
        run(prepared, task, tmp_path, 1)


KILLED = """
import sys
from pathlib import Path
from types import SimpleNamespace
from fededge.documents import Population
from fededge.learning.frameworks import model_spec
from fededge.task import FederatedTask
from tests.fededge.learning.test_engines import run
task, population = FederatedTask.from_json(sys.argv[1]), Population.read(sys.argv[2])
prepared = SimpleNamespace(population=population, clients=Path(sys.argv[3]), plan=lambda task: Path(sys.argv[4]),
    spec=lambda task: model_spec(task.model, population.example, task.seed))
run(prepared, task, Path(sys.argv[5]), 3, lambda record: print(record.round, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["federated", "simulation"])
def test_killed_by_sigkill_and_run_again_gives_the_same_bits(
    prepared: Any, make_task: Callable[..., FederatedTask], tmp_path: Path, engine: str
) -> None:
    task = make_task(engine=engine, server={"optimizer": "adam", "learning_rate": 0.01})
    whole = run(prepared, task, tmp_path / "whole", 3)
    prepared.population.write(tmp_path / "population.json")
    arguments = [
        task.to_json(),
        tmp_path / "population.json",
        prepared.clients,
        prepared.plan(task),
        tmp_path / "c",
    ]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        assert process.stdout
        assert int(process.stdout.readline()) == 1
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "c" / "000003.checkpoint").exists()
    resumed = run(prepared, task, tmp_path / "c", 3)
    assert all(whole.weights[n].tobytes() == resumed.weights[n].tobytes() for n in whole.weights)
    assert [record.round for record in resumed.history] == [1, 2, 3]


class Scripted:
    """A runtime that hands in prepared bytes, one report after another."""

    def __init__(self, folder: Path, updates: dict[str, bytes]) -> None:
        self.folder, self.updates = folder, updates

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        for client in cohort:
            if client in self.updates:
                (self.folder / client).write_bytes(self.updates[client])
                yield TrainingReport(client, self.folder / client)
            else:
                yield TrainingReport(client, None, "no report within 1 s")

    def enough(self) -> Usage:
        return Usage(bytes_sent=1)

    def evaluate(self, *asked: object) -> Iterator[Any]:
        raise NotImplementedError

    ranges = evaluate


COHORT = ["site-0", "site-1", "site-2"]
ASKED = [ClientCounts(id=client, train=100, test=1) for client in COHORT]


@pytest.fixture
def scripted(prepared: Any, make_task: Callable[..., FederatedTask], tmp_path: Path) -> Callable[..., Any]:
    """`scripted({"quorum": 1}, {client: (examples, spoil)})` runs one round over such updates."""

    def one_round(
        operation: dict[str, object],
        handed_in: dict[str, dict[str, Any]],
        heard: Any = print,
        **learning: Any,
    ) -> Any:
        task = make_task(operation=operation, **learning)
        weights = prepared.spec(task).initial_weights()
        plan = Plan.read(prepared.plan(task) / "plan.json")
        form = UpdateFormat.of(plan)
        updates = {}
        for client, how in handed_in.items():
            delta = {name: np.full_like(v, how.get("value", 0.5)) for name, v in weights.items()}
            if how.get("spoilt"):
                delta["logits/bias"] = np.full(10, np.nan, np.float32)
            updates[client] = form.encode(Update(delta, how.get("examples", 10), 2.0, {"correct": 5}))
        runtime = Scripted(tmp_path, updates)
        with FederatedEngine(plan, task.learning, task.operation, task.seed, runtime, heard) as engine:
            return weights, engine.next(weights, engine.initialize(), 1, ASKED)

    return one_round


def test_bad_updates_are_left_out_and_the_quorum_decides(scripted: Callable[..., Any]) -> None:
    handed_in = {"site-0": {}, "site-1": {"spoilt": True}}
    heard: dict[str, str | None] = {}
    weights, result = scripted({"quorum": 1}, handed_in, heard.__setitem__)
    assert result.reported == ["site-0"]
    assert "NaN" in result.failed["site-1"]
    assert "no report" in result.failed["site-2"]
    assert list(heard) == COHORT
    assert heard["site-0"] is None
    np.testing.assert_allclose(result.weights["logits/bias"], weights["logits/bias"] - 0.5, atol=1e-6)
    with pytest.raises(QuorumError, match="1 usable reports of 3 where the quorum is 3"):
        scripted({}, handed_in)


def test_no_client_owns_the_mean_by_claiming_more_examples_than_it_holds(
    scripted: Callable[..., Any],
) -> None:
    honest: dict[str, dict[str, float]] = {"site-0": {}, "site-1": {}}
    _, fair = scripted({"quorum": 2}, honest)
    _, result = scripted({"quorum": 2}, {**honest, "site-2": {"examples": 1e30, "value": -1e6}})
    assert result.reported == ["site-0", "site-1"]
    assert "at most 100" in result.failed["site-2"]
    assert all((result.weights[name] == fair.weights[name]).all() for name in fair.weights)


def test_a_round_goes_on_once_as_many_reports_count_as_it_has_seats(scripted: Callable[..., Any]) -> None:
    heard: dict[str, str | None] = {}
    two = {"size": 2, "over_selection": 1.5}
    handed_in: dict[str, dict[str, Any]] = {client: {} for client in COHORT}
    _, result = scripted({}, handed_in, heard.__setitem__, cohort=two)
    assert (result.reported, result.failed, result.spare) == (["site-0", "site-1"], {}, ["site-2"])
    assert list(heard) == ["site-0", "site-1"]
    assert result.usage == Usage(bytes_sent=1)
    _, result = scripted({}, {**handed_in, "site-0": {"spoilt": True}}, cohort=two)
    assert (result.reported, list(result.failed), result.spare) == (["site-1", "site-2"], ["site-0"], [])
    assert result.losses == {"site-1": 0.2, "site-2": 0.2}


def test_fewer_clients_than_the_quorum_do_not_start_a_round(
    prepared: Any, make_task: Callable[..., FederatedTask], tmp_path: Path
) -> None:
    task = make_task()
    plan = Plan.read(prepared.plan(task) / "plan.json")
    weights = prepared.spec(task).initial_weights()
    with FederatedEngine(plan, task.learning, task.operation, task.seed, Scripted(tmp_path, {})) as engine:
        with pytest.raises(QuorumError, match="only 2 clients where the quorum is 3"):
            engine.next(weights, engine.initialize(), 1, ASKED[:2])
