"""Both engines give the same weights, and a killed run goes on to the same bits."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fededge.errors import DivergedError, QuorumError
from fededge.learning.engines import open_engine
from fededge.learning.federated import FederatedEngine
from fededge.learning.frameworks.keras import models
from fededge.learning.rounds import run_rounds
from fededge.learning.runtimes import Reports
from fededge.learning.state import State, load
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("worker")


def run(prepared, task: FederatedTask, folder: Path, rounds: int = 2) -> State:  # type: ignore[no-untyped-def]
    state = State(task.digest, 0, models.initial_weights(task), [])
    cohorts = dict.fromkeys(range(1, rounds + 1), prepared.clients)
    with open_engine(task, prepared.data, prepared.plan(task)) as engine:
        return run_rounds(task, engine, state, cohorts, str(folder / "checkpoint"), lambda record: None)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        ({"batch_size": 16, "epochs": 2}, {"optimizer": "sgd", "momentum": 0.9}),
        (
            {"batch_size": 16, "optimizer": "adam", "learning_rate": 0.001},
            {"optimizer": "yogi", "learning_rate": 0.01},
        ),
    ],
    ids=["sgd-momentum", "adam-yogi"],
)
def test_simulation_and_federated_give_the_same_weights(  # type: ignore[no-untyped-def]
    prepared,
    make_task: Callable[..., FederatedTask],
    tmp_path: Path,
    client: dict[str, object],
    server: dict[str, object],
) -> None:
    # Over a hundred small steps a client: training would amplify one differing bit far above 1e-5.
    states = []
    for engine in ("simulation", "federated"):
        task = make_task(engine=engine, server=server, client=client, dropout=0.0)
        (tmp_path / engine).mkdir()
        states.append(run(prepared, task, tmp_path / engine, 3))
    for name, value in states[0].weights.items():
        np.testing.assert_allclose(value, states[1].weights[name], rtol=0, atol=1e-5)
    for key in ("examples", "loss", "accuracy"):
        for first, second in zip(states[0].history, states[1].history, strict=True):
            assert first[key] == pytest.approx(second[key], rel=1e-4)


@pytest.mark.parametrize("engine", ["federated", "simulation"])
def test_the_same_task_gives_the_same_bits_with_dropout(  # type: ignore[no-untyped-def]
    prepared, make_task: Callable[..., FederatedTask], tmp_path: Path, engine: str
) -> None:
    task = make_task(engine=engine)
    first = run(prepared, task, tmp_path, 1)
    (tmp_path / "again").mkdir()
    second = run(prepared, task, tmp_path / "again", 1)
    assert all(first.weights[n].tobytes() == second.weights[n].tobytes() for n in first.weights)


def test_a_simulated_client_that_diverges_fails_the_round(  # type: ignore[no-untyped-def]
    prepared, make_task: Callable[..., FederatedTask], tmp_path: Path
) -> None:
    task = make_task(engine="simulation", client={"batch_size": 100, "learning_rate": 1e30})
    with pytest.raises(DivergedError, match="learning_rate"):
        run(prepared, task, tmp_path, 1)


KILLED = """
import sys
from pathlib import Path
from fededge.learning.frameworks.keras import models
from fededge.learning.engines import open_engine
from fededge.learning.rounds import run_rounds
from fededge.learning.state import State
from fededge.task import FederatedTask
task = FederatedTask.from_json(sys.argv[1])
state = State(task.digest, 0, models.initial_weights(task), [])
cohorts = {n: ["site-0", "site-1", "site-2"] for n in (1, 2, 3)}
with open_engine(task, Path(sys.argv[2]), Path(sys.argv[3])) as engine:
    run_rounds(task, engine, state, cohorts, sys.argv[4], lambda r: print(r["round"], flush=True))
"""


@pytest.mark.parametrize("engine", ["federated", "simulation"])
def test_killed_by_sigkill_and_run_again_gives_the_same_bits(  # type: ignore[no-untyped-def]
    prepared, make_task: Callable[..., FederatedTask], tmp_path: Path, engine: str
) -> None:
    task = make_task(engine=engine, server={"optimizer": "adam", "learning_rate": 0.01})
    (tmp_path / "whole").mkdir()
    whole = run(prepared, task, tmp_path / "whole", 3)
    with subprocess.Popen(
        [
            *(sys.executable, "-c", KILLED, task.to_json(), str(prepared.data)),
            *(str(prepared.plan(task)), str(tmp_path / "checkpoint")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    ) as process:
        assert process.stdout
        assert int(process.stdout.readline()) == 1
        process.send_signal(signal.SIGKILL)
    assert load(tmp_path / "checkpoint").round < 3
    resumed = run(prepared, task, tmp_path, 3)
    assert all(whole.weights[n].tobytes() == resumed.weights[n].tobytes() for n in whole.weights)
    assert [r["round"] for r in resumed.history] == [1, 2, 3]


class Scripted:
    """A runtime that hands in prepared bytes."""

    def __init__(self, folder: Path, updates: dict[str, bytes]) -> None:
        self.folder, self.updates = folder, updates

    def train(self, task_seed, round_number, weights, cohort, deadline_seconds):  # type: ignore[no-untyped-def]
        for client, data in self.updates.items():
            (self.folder / client).write_bytes(data)
        missing = {client: "no report within 1 s" for client in cohort if client not in self.updates}
        return Reports({client: self.folder / client for client in self.updates}, missing)

    def evaluate(self, weights, clients, deadline_seconds):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def close(self) -> None: ...


def test_bad_updates_are_left_out_and_the_quorum_decides(  # type: ignore[no-untyped-def]
    make_task: Callable[..., FederatedTask], tmp_path: Path
) -> None:
    from fededge.learning.update import Layout, Update
    from fededge.weights import shapes

    task = make_task(cohort={"size": 3, "quorum": 1})
    weights = models.initial_weights(task)
    layout = Layout(shapes(weights))
    delta = {name: np.full_like(value, 0.5) for name, value in weights.items()}
    good = layout.encode(Update(delta, 10, 5, 2.0))
    spoilt = layout.encode(Update(delta | {"logits/bias": np.full(10, np.nan, np.float32)}, 10, 5, 2.0))
    handed_in = {"site-0": good, "site-1": spoilt}
    with FederatedEngine(task, Scripted(tmp_path, handed_in)) as engine:
        outcome = engine.next(weights, engine.initialize(), 1, ["site-0", "site-1", "site-2"])
    assert outcome.reported == ["site-0"]
    assert "NaN" in outcome.failed["site-1"]
    assert "no report" in outcome.failed["site-2"]
    np.testing.assert_allclose(outcome.weights["logits/bias"], weights["logits/bias"] - 0.5, atol=1e-6)
    strict = make_task(cohort={"size": 3})
    with FederatedEngine(strict, Scripted(tmp_path, handed_in)) as engine:
        with pytest.raises(QuorumError, match="1 usable reports of 3 where the quorum is 3"):
            engine.next(weights, engine.initialize(), 1, ["site-0", "site-1", "site-2"])
