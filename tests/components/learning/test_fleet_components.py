"""The learning components over a gateway's clients: from a census to an evaluated model, with no example here."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Metrics, Model

from fededge import litert_program, storage
from fededge.documents import CalibrationRanges, Elsewhere, Evaluation, Plan, Population, Rounds, Selection
from fededge.errors import GatewayError, QuorumError
from fededge.fleet.selection import Selector, select
from fededge.learning import state as states
from fededge.learning.checkpoints import Checkpoints
from fededge.learning.data import folders
from fededge.learning.data.folders import client_names
from fededge.learning.engines import open_engine
from fededge.learning.frameworks import open_client
from fededge.learning.rounds import run_rounds
from fededge.protocol import Dataset as Held
from fededge.protocol import RoundRequest
from fededge.seeds import seed_for
from fededge.signing import SigningKey
from fededge.task import FederatedTask, parse
from fededge.tracking.run import TrackedRun
from fededge.update import UpdateFormat
from fededge.weights import from_bytes
from tests.fededge.fleet.stand_in import TOKEN, Said, StandIn, running

pytest_plugins = ["tests.mlflow_store"]
pytestmark = pytest.mark.environment("worker")

COMMON: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "model": {"framework": "sklearn", "name": "SGDClassifier", "loss": "log_loss"},
    "learning": {"rounds": 2, "client": {"batch_size": 100}},
}
SIMULATED = parse(json.dumps(COMMON | {"data": {"source": "digits"}}))


def fleet_task(**changes: Any) -> FederatedTask:
    data = {"source": "fleet", "dataset": "numerals", "held_out": {"source": "digits"}}
    prices = {"gigabyte": 1.0, "client_second": 0.5}
    return parse(json.dumps(COMMON | {"data": data, "operation": {"prices": prices}} | changes))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Population]:
    """Folders of three sites, each with its own examples."""
    root = tmp_path_factory.mktemp("sites")
    task = SIMULATED
    found = folders.prepare(task.local_data, task.partition, task.seed, root / "clients", root / "test")
    return root / "clients", found


@pytest.fixture
def gateway(
    sites: tuple[Path, Population], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """A gateway with these sites, which carry out what they are asked at once; this environment names it."""
    clients, population = sites

    def answer(request: RoundRequest, client: str) -> Said:
        plan = tmp_path / "plans" / request.plan
        zipfile.ZipFile(io.BytesIO(stand_in.blobs[request.plan])).extractall(plan)
        weights = from_bytes(stand_in.blobs[request.weights])
        opened = open_client(plan, clients / client)
        if request.kind == "evaluate":
            return {"counts": dict(opened.evaluate(weights)), "seconds": 1.0}
        if request.kind == "ranges":
            return {"ranges": asdict(opened.ranges(weights)), "seconds": 1.0}
        update = opened.train(weights, seed_for(3, request.number, client))
        return {"update": UpdateFormat.of(Plan.read(plan / "plan.json")).encode(update), "seconds": 2.0}

    stand_in = StandIn(answer)
    for held in population.clients:
        digest = population.example.form_digest
        stand_in.enroll(
            held.id, Held(name="numerals", train=held.train, test=held.test, schema_digest=digest)
        )
    (tmp_path / "token").write_text(TOKEN)
    with running(stand_in):
        monkeypatch.setenv("FEDEDGE_GATEWAY", stand_in.url)
        monkeypatch.setenv("FEDEDGE_GATEWAY_TOKEN_FILE", str(tmp_path / "token"))
        yield stand_in


class Steps:
    """The artifacts of a run, and its components as functions."""

    def __init__(self, plain: Any, artifact: Any, task: FederatedTask) -> None:
        self.plain, self.artifact, self.task = plain, artifact, task
        self.clients = {
            "population": artifact(Artifact, "population"),
            "data": artifact(Dataset, "data"),
            "test": artifact(Dataset, "test"),
        }
        self.plan, self.state = artifact(Artifact, "plan"), artifact(Model, "state")
        self.selection, self.after = artifact(Artifact, "selection"), artifact(Model, "after")

    def do(self, name: str, **given: Any) -> Any:
        return self.plain(name)(task=self.task.to_json(), run="run-1", **given)

    def prepare(self) -> None:
        self.do("learning/prepare_data", compiled=self.task.to_json(), **self.clients)
        population = self.clients["population"]
        self.do("learning/initialize_model", population=population, plan=self.plan, state=self.state)
        compiled = self.task.to_json()
        self.do("fleet/select_cohort", compiled=compiled, population=population, selection=self.selection)

    def train(self) -> states.State:
        self.do(
            "learning/run_rounds",
            until=2,
            plan=self.plan,
            state=self.state,
            selection=self.selection,
            next_state=self.after,
            figures=self.artifact(Metrics, "figures"),
            **self.clients,
        )
        return states.load(self.after.path)


@pytest.fixture
def steps(
    plain: Callable[..., Any], artifact: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[FederatedTask], Steps]:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    return lambda task: Steps(plain, artifact, task)


def test_a_keras_plan_of_a_fleet_is_also_for_devices_without_tensorflow(gateway: StandIn, steps: Any) -> None:
    run = steps(fleet_task(model={"name": "mlp", "arguments": {"hidden": [8]}}))
    run.prepare()
    plan = Path(run.plan.path)
    program = Plan.read(plan / "plan.json").litert
    assert program is not None
    assert program.digest == storage.digest_path(plan / litert_program.FILE)


def test_from_a_census_to_an_evaluated_model(
    gateway: StandIn, steps: Any, sites: tuple[Path, Population], artifact: Any, tmp_path: Path
) -> None:
    run = steps(fleet_task())
    run.prepare()
    population = Population.read(run.clients["population"].path)
    assert (population.simulated, population.size, population.examples) == (False, 3, sites[1].examples)
    assert population.held_out
    assert population.held_out.test == 1797
    assert [file.name for file in Path(run.clients["data"].path).iterdir()] == ["elsewhere.json"]
    assert Elsewhere.read(f"{run.clients['data'].path}/elsewhere.json").clients == 3
    assert Selection.read(run.selection.path).pool == []

    end = run.train()
    assert [record.reported for record in end.history] == [["site-0", "site-1", "site-2"]] * 2
    assert {name: found.outcome for name, found in gateway.rounds.items()} == {
        "run-1-1-train": "committed",
        "run-1-2-train": "committed",
    }
    assert gateway.rounds["run-1-2-train"].losses == end.history[-1].losses
    record = end.history[0]
    assert (record.bytes_sent, record.bytes_received, record.client_seconds) == (1000, 2000, 6.0)
    assert record.cost == pytest.approx(3000 / 1e9 + 3.0)
    told = TrackedRun.find("run-1").metrics
    assert told["round/cost"] == pytest.approx(end.history[-1].cost)
    assert told["round/client_seconds"] == 6.0

    # The same clients on this machine learn the same, bit for bit.
    local = select(SIMULATED.learning.cohort, SIMULATED.seed, sites[1])
    plan = Path(run.plan.path)
    of = SIMULATED
    with open_engine(of.model, of.learning, of.operation, of.seed, plan, sites[0]) as engine:
        begin = states.load(run.state.path)
        checkpoints = Checkpoints(str(tmp_path / "local"), "run-2", bytes(32))
        selector = Selector(local, lambda: client_names(sites[0]))
        same = run_rounds(engine, selector, begin, 2, checkpoints)
    assert all(np.array_equal(end.weights[name], value) for name, value in same.weights.items())

    evaluation, ranges = artifact(Metrics, "evaluation"), artifact(Artifact, "ranges")
    run.do(
        "learning/evaluate_model",
        calibrate=True,
        plan=run.plan,
        state=run.after,
        evaluation=evaluation,
        classification=artifact(ClassificationMetrics, "classification"),
        ranges=ranges,
        **run.clients,
    )
    found = Evaluation.read(evaluation.path)
    assert [client.id for client in found.clients] == ["site-0", "site-1", "site-2"]
    assert (found.examples, found.failed) == (1797, {})
    assert found.score > 0.5
    assert CalibrationRanges.read(ranges.path).clients == 3
    assert {"run-1-2-evaluate", "run-1-2-ranges"} <= gateway.rounds.keys()


def test_a_step_that_died_goes_on_with_the_reports_that_came_meanwhile(
    gateway: StandIn, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = steps(fleet_task())
    run.prepare()

    class Killed(BaseException):
        """What ends a process."""

    real = Checkpoints.save
    told: list[str] = []

    def dies(self: Checkpoints, state: states.State) -> None:
        if state.round == 2 and not told:
            told.append("killed before the checkpoint of round 2")
            raise Killed
        real(self, state)

    monkeypatch.setattr(Checkpoints, "save", dies)
    with pytest.raises(Killed):
        run.train()
    assert [found.outcome for found in gateway.rounds.values()] == ["committed", None]
    end = run.train()
    assert [found.outcome for found in gateway.rounds.values()] == ["committed", "committed"]
    assert [record.round for record in end.history] == [1, 2]
    assert len(gateway.selections) == 2
    assert isinstance(TrackedRun.find("run-1").records()["rounds-0001"], dict)
    assert len(Rounds.from_content(TrackedRun.find("run-1").records()["rounds-0001"]).rounds) == 2


def test_a_round_below_its_quorum_fails_at_the_gateway_too(gateway: StandIn, steps: Any) -> None:
    gateway.answer = lambda request, client: {"failure": "no power"}
    run = steps(fleet_task())
    run.prepare()
    with pytest.raises(QuorumError, match="no power"):
        run.train()
    found = gateway.rounds["run-1-1-train"]
    assert found.outcome == "failed"
    assert "no power" in found.reason


def test_without_a_gateway_or_its_key_a_fleet_is_not_prepared(
    steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDEDGE_GATEWAY", raising=False)
    run = steps(fleet_task())
    with pytest.raises(GatewayError, match="set FEDEDGE_GATEWAY"):
        run.prepare()


def test_orders_are_signed_by_the_release_key(gateway: StandIn, steps: Any) -> None:
    run = steps(fleet_task())
    run.prepare()
    run.train()
    trusted = SigningKey.for_releases().public
    for found in gateway.rounds.values():
        assert trusted.verify(found.request.order.encode())["task"] == "small"
