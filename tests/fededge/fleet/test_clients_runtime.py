"""The clients of a fleet over HTTP: rounds that are found again, updates that are proven, and what gateways are told."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fededge import archives
from fededge.client_reports import TrainingReport, Usage
from fededge.documents import Elsewhere, Feature, HeldOut, Label, Plan, RoundRecord, Schema
from fededge.errors import DataError, QuorumError, TaskError
from fededge.fleet import census, clients_runtime
from fededge.fleet.clients_runtime import GatewayClients
from fededge.fleet.gateway_client import GatewayClient
from fededge.protocol import Dataset, Order, RoundRequest
from fededge.signing import SigningKey
from fededge.task import FederatedTask, Operation, parse
from fededge.weights import from_bytes
from tests.fededge.fleet.stand_in import Said, StandIn, client_of, running

pytestmark = pytest.mark.environment("platform", "worker")

SCHEMA = Schema(features=[Feature(name="x", dtype="float32", shape=[2])], label=Label(classes=2))
WEIGHTS = {"w": np.ones(3, np.float32)}
UPDATE = b"an update of 30 bytes, always "
NAMES = ["a", "b", "c"]


def task(**learning: Any) -> FederatedTask:
    return parse(
        yaml.safe_dump(
            {
                "name": "ward",
                "seed": 7,
                "data": {"source": "fleet", "dataset": "ward-3", "held_out": {"source": "digits"}},
                "learning": {"cohort": {"size": 3, **learning.pop("cohort", {})}, **learning},
                "operation": {"quorum": 2},
            }
        )
    )


def held(schema: Schema = SCHEMA, train: int = 100) -> Dataset:
    return Dataset(name="ward-3", train=train, test=10, schema_digest=schema.form_digest)


@pytest.fixture
def gateway() -> Iterator[StandIn]:
    """Three clients that report an update each as soon as they are asked."""
    stand_in = StandIn(lambda request, client: {"update": UPDATE, "seconds": 2.0})
    for client in NAMES:
        stand_in.enroll(client, held())
    with running(stand_in):
        yield stand_in


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    folder = tmp_path / "plan"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").write_bytes(b"graph")
    digest = "sha256:" + "a" * 64
    Plan(framework="keras", task=digest, example=SCHEMA, variables=[], activations=[]).write(
        folder / "plan.json"
    )
    return folder


@pytest.fixture
def clients(gateway: StandIn, plan: Path, tmp_path: Path) -> Callable[..., GatewayClients]:
    """`clients()` is a coordinator of the run run-1, with a connection of its own."""
    key = SigningKey.create(tmp_path / "release.pem")

    def open_clients(of: FederatedTask | None = None, run: str = "run-1") -> GatewayClients:
        connection = client_of(gateway, tmp_path)
        return GatewayClients(connection, of or task(), run, plan, key, len(UPDATE))

    return open_clients


def train(fleet: GatewayClients, number: int = 1) -> list[tuple[str, bytes | None, str | None]]:
    """Select and train round `number`: each client's update, and why there is none."""
    cohort = [client.id for client in fleet.select(number, [])]
    reports = fleet.train(WEIGHTS, 7, number, cohort, 60.0)
    return [
        (each.client, each.update.read_bytes() if each.update else None, each.failure) for each in reports
    ]


def end(fleet: GatewayClients, error: BaseException) -> None:
    """Leave `fleet` as a block does that ends with `error`."""
    fleet.__exit__(type(error), error, None)


def record(number: int = 1, **changes: Any) -> RoundRecord:
    counted: dict[str, Any] = {"examples": 1.0, "loss": 1.0, "score": 0.0, "seconds": 1.0, "at": 0.0}
    return RoundRecord(round=number, cohort=NAMES, reported=NAMES, **counted, **changes)


def test_a_round_is_selected_ordered_heard_and_told_only_after_its_checkpoint(
    gateway: StandIn, clients: Callable[..., GatewayClients], plan: Path, tmp_path: Path
) -> None:
    of = task(cohort={"size": 2, "over_selection": 1.5, "policy": "weighted", "weights": {"fair": 2.0}})
    with clients(of) as fleet:
        chosen = fleet.select(4, [])
        assert [(client.id, client.train, client.test) for client in chosen] == [(n, 100, 10) for n in NAMES]
        assert train(fleet, 4) == [(name, UPDATE, None) for name in NAMES]
        assert fleet.enough() == Usage(bytes_sent=1000, bytes_received=2000, client_seconds=6.0)
        found = gateway.rounds["run-1-4-train"]
        assert (found.state, found.outcome) == ("closed", None)
        fleet.committed(record(4, losses={"a": 0.5}))
        assert (found.outcome, found.losses) == ("committed", {"a": 0.5})
    asked = gateway.selections[0]
    assert (asked.size, asked.policy, asked.weights, asked.seed, asked.number) == (
        3,
        "weighted",
        {"fair": 2.0},
        7,
        4,
    )
    assert (asked.framework, asked.schema_digest) == ("keras", SCHEMA.form_digest)
    order = Order.opened(found.request.order, SigningKey.load(tmp_path / "release.pem").public)
    assert (order.tenant, order.task, order.identity, order.round_id) == (
        "hospital",
        "ward",
        of.identity,
        "run-1-4-train",
    )
    assert (order.kind, order.dataset, order.number, order.seed) == ("train", "ward-3", 4, 7)
    assert (order.cohort, order.min_clients, order.code) == (3, 2, False)
    assert (found.request.plan, found.request.weights) == (order.plan, order.weights)
    assert (found.request.update_bytes, found.request.goal) == (len(UPDATE), None)
    assert gateway.blobs[order.plan] == archives.packed(plan)
    assert (from_bytes(gateway.blobs[order.weights])["w"] == 1.0).all()


def test_plan_and_weights_are_sent_once(gateway: StandIn, clients: Callable[..., GatewayClients]) -> None:
    for run in ("run-1", "run-2"):
        with clients(run=run) as fleet:
            train(fleet, 1)
            train(fleet, 2)
    assert len([path for method, path in gateway.requests if path.startswith("/uploads/")]) == 2


def test_a_round_takes_few_requests(gateway: StandIn, clients: Callable[..., GatewayClients]) -> None:
    with clients() as fleet:
        for number in (1, 2):
            gateway.requests.clear()
            train(fleet, number)
            fleet.enough()
            fleet.committed(record(number))
    told = [(method, path.removeprefix("/v1/rounds/run-1-2-train")) for method, path in gateway.requests]
    assert [request for request in told if "/objects/" not in request[1]] == [
        ("POST", "/v1/selections"),
        ("POST", "/v1/blobs"),
        ("PUT", ""),
        ("GET", "/reports"),
        ("GET", "/reports"),
        ("POST", "/close"),
    ]


def test_a_coordinator_that_was_killed_goes_on_with_its_round_and_loses_no_report(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    gateway.answer = lambda request, client: {"update": UPDATE} if client == "a" else None
    first = clients().__enter__()
    cohort = [client.id for client in first.select(1, [])]
    reports = first.train(WEIGHTS, 7, 1, cohort, 60.0)
    assert next(reports).client == "a"
    end(first, KeyboardInterrupt())
    assert gateway.rounds["run-1-1-train"].state == "open"
    gateway.report("run-1-1-train", "c", {"update": UPDATE})
    gateway.enroll("0-is-new", held())
    gateway.report("run-1-1-train", "b", {"failure": "out of memory"})
    with clients() as again:
        found = train(again)
        assert found == [("a", UPDATE, None), ("c", UPDATE, None), ("b", None, "out of memory")]
    assert len(gateway.selections) == 1
    assert list(gateway.rounds) == ["run-1-1-train"]


def test_what_was_committed_before_a_kill_is_told_after_it(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    fleet = clients().__enter__()
    train(fleet)
    fleet.enough()
    end(fleet, KeyboardInterrupt())  # after the checkpoint, before the gateway was told
    with clients() as again:
        again.committed(record())
        again.committed(record())
        again.committed(record(9))  # of a round that no gateway knows
    assert gateway.rounds["run-1-1-train"].outcome == "committed"


def test_a_round_that_failed_is_tried_anew_with_a_new_cohort(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    fleet = clients().__enter__()
    train(fleet)
    fleet.enough()
    end(fleet, QuorumError("round 1 has 1 usable report of 3 where the quorum is 2"))
    failed = gateway.rounds["run-1-1-train"]
    assert (failed.outcome, failed.reason) == (
        "failed",
        "round 1 has 1 usable report of 3 where the quorum is 2",
    )
    with clients() as again:
        train(again)
        again.enough()
        again.committed(record())
    assert gateway.rounds["run-1-1-train-2"].outcome == "committed"
    assert len(gateway.selections) == 2


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"failure": "no space left"}, "no space left"),
        ({"update": UPDATE, "claims": "sha256:" + "0" * 64}, "refused: .* were promised"),
        ({"update": UPDATE[:-1]}, "refused: an object of 29 bytes .* where 30"),
        ({"update": UPDATE * 2}, "refused: .* more than the 30 bytes"),
        ({"counts": {"examples": 1.0}}, "something else than an update"),
    ],
)
def test_an_update_that_is_not_what_was_promised_is_that_clients_failure(
    gateway: StandIn, clients: Callable[..., GatewayClients], said: Said, words: str
) -> None:
    gateway.answer = lambda request, client: said if client == "b" else {"update": UPDATE}
    with clients() as fleet:
        found = {client: (update, failure) for client, update, failure in train(fleet)}
    assert found["a"] == found["c"] == (UPDATE, None)
    update, failure = found["b"]
    assert update is None
    assert re.search(words, str(failure))


def test_an_update_whose_url_is_too_old_is_fetched_by_a_new_one(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    gateway.stale = 1
    with clients() as fleet:
        assert train(fleet) == [(name, UPDATE, None) for name in NAMES]


def test_an_update_that_is_not_kept_any_more_is_that_clients_failure(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    gateway.stale = 2
    with clients() as fleet:
        (_, update, failure), *others = train(fleet)
    assert update is None
    assert "its update is refused: this URL is too old" in str(failure)
    assert others == [(name, UPDATE, None) for name in NAMES[1:]]


def test_clients_that_did_not_report_are_named_with_what_the_gateway_knows(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    gateway.answer = lambda request, client: {"update": UPDATE} if client == "a" else None
    gateway.clients["asleep-1"] = gateway.clients.pop("b").model_copy(update={"client": "asleep-1"})
    with clients() as fleet:
        cohort = [client.id for client in fleet.select(1, [])]
        reports = fleet.train(WEIGHTS, 7, 1, cohort, 60.0)
        first = next(reports)
        gateway.rounds["run-1-1-train"].state = "closed"  # by its deadline
        rest = {report.client: report.failure for report in reports}
    assert first == TrainingReport("a", first.update)
    assert rest == {"asleep-1": "asleep", "c": "no report within 60 s"}


def test_a_round_waits_until_as_many_clients_are_there_as_its_quorum(
    gateway: StandIn, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_runtime, "LOOK", 0.01)
    for name in ("b", "c"):
        gateway.clients[name] = gateway.clients[name].model_copy(update={"connected": False})
    said: list[str] = []

    def told(line: str) -> None:
        said.append(line)
        gateway.enroll("b", held())

    key = SigningKey.create(tmp_path / "own.pem")
    with GatewayClients(client_of(gateway, tmp_path), task(), "run-1", plan, key, 30, told) as fleet:
        assert [client.id for client in fleet.select(1, [])] == ["a", "b"]
    assert said == ["1 of 2 clients are there: waiting for more"]


def test_clients_that_do_not_come_are_waited_for_as_long_as_a_round_may_take(
    gateway: StandIn, clients: Callable[..., GatewayClients], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients_runtime, "LOOK", 0.01)
    for name in NAMES:
        gateway.clients[name] = gateway.clients[name].model_copy(update={"connected": False})
    brief = task().model_copy(update={"operation": Operation(quorum=2, round_deadline_seconds=0.05)})
    with clients(brief) as fleet:
        assert fleet.select(1, []) == []


def test_slow_clients_are_given_a_share_of_their_examples(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    gateway.enroll("a", held(train=1000), speed=1.0)
    gateway.enroll("b", held(train=1000), speed=1000.0)
    with clients(task(cohort={"allocation": "deadline"})) as fleet:
        train(fleet)
    assert gateway.rounds["run-1-1-train"].request.shares == pytest.approx({"a": 0.042, "c": 0.42})
    with clients(run="run-2") as fleet:
        train(fleet)
    assert gateway.rounds["run-2-1-train"].request.shares == {}


def test_a_plan_that_the_gateway_deleted_is_sent_again(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    with clients() as fleet:
        train(fleet, 1)
        fleet.committed(record(1))
        gateway.blobs.clear()
        assert train(fleet, 2) == [(name, UPDATE, None) for name in NAMES]
        fleet.committed(record(2))
    assert [found.outcome for found in gateway.rounds.values()] == ["committed", "committed"]


def test_evaluation_and_ranges_are_rounds_of_their_own(
    gateway: StandIn, clients: Callable[..., GatewayClients], tmp_path: Path
) -> None:
    counts, measured = {"examples": 9.0, "loss_sum": 1.0}, {"examples": 9, "low": [0.0], "high": [1.0]}

    def answer(request: RoundRequest, client: str) -> Said:
        if client == "b":
            return {"failure": "busy"}
        return {"counts": counts} if request.kind == "evaluate" else {"ranges": measured}

    gateway.answer = answer
    with clients() as fleet:
        asked = [client.id for client in fleet.evaluators(4, None)]
        evaluated = {
            each.client: (each.counts, each.failure) for each in fleet.evaluate(WEIGHTS, 4, asked, 60.0)
        }
        ranges = {each.client: (each.ranges, each.failure) for each in fleet.ranges(WEIGHTS, 4, asked, 60.0)}
        assert [found.outcome for found in gateway.rounds.values()] == [None, None]
    assert evaluated == {"a": (counts, None), "b": (None, "busy"), "c": (counts, None)}
    assert ranges == {"a": (measured, None), "b": (None, "busy"), "c": (measured, None)}
    assert list(gateway.rounds) == ["run-1-4-evaluate", "run-1-4-ranges"]
    assert [found.outcome for found in gateway.rounds.values()] == ["committed", "committed"]
    assert (gateway.selections[0].policy, gateway.selections[0].size) == ("uniform", 1000)
    trusted = SigningKey.load(tmp_path / "release.pem").public
    orders = [Order.opened(found.request.order, trusted) for found in gateway.rounds.values()]
    assert [(order.kind, order.min_clients) for order in orders] == [("evaluate", 3), ("ranges", 3)]
    with clients() as again:
        assert [client.id for client in again.evaluators(4, None)] == NAMES
        assert len(list(again.evaluate(WEIGHTS, 4, NAMES, 60.0))) == 3
    assert len(gateway.selections) == 1


def test_an_evaluation_that_came_to_nothing_is_asked_for_again(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    gateway.answer = lambda request, client: {"failure": "busy"}
    fleet = clients().__enter__()
    list(fleet.evaluate(WEIGHTS, 4, [client.id for client in fleet.evaluators(4, 2)], 60.0))
    end(fleet, DataError("too few"))
    gateway.answer = lambda request, client: {"counts": {"examples": 1.0}}
    with clients() as again:
        list(again.evaluate(WEIGHTS, 4, [client.id for client in again.evaluators(4, 2)], 60.0))
    outcomes = {name: found.outcome for name, found in gateway.rounds.items()}
    assert outcomes == {"run-1-4-evaluate": "failed", "run-1-4-evaluate-2": "committed"}


def test_a_failure_that_the_gateway_cannot_be_told_says_so(
    gateway: StandIn, clients: Callable[..., GatewayClients]
) -> None:
    fleet = clients().__enter__()
    train(fleet)
    gateway.rounds.clear()
    failure = QuorumError("too few")
    end(fleet, failure)
    assert "the gateway was not told: " in failure.__notes__[0]


def test_simulated_clients_are_nobody_that_a_gateway_reaches(
    gateway: StandIn, plan: Path, tmp_path: Path
) -> None:
    simulated = parse("name: a\ndata: {source: digits}\n")
    key = SigningKey.create(tmp_path / "release.pem")
    with pytest.raises(TaskError, match="are simulated"):
        GatewayClients(client_of(gateway, tmp_path), simulated, "run-1", plan, key, 30)


def test_a_plans_archive_is_the_same_for_the_same_files(plan: Path, tmp_path: Path) -> None:
    first = archives.packed(plan)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in ("plan.json", "variables/data"):
        (copy / file).parent.mkdir(exist_ok=True)
        (copy / file).write_bytes((plan / file).read_bytes())
    assert archives.packed(copy) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == ["plan.json", "variables/data"]
        assert archive.testzip() is None


def take(gateway: GatewayClient, folder: Path, said: list[str]) -> Any:
    held_out = HeldOut(by="source", seed=7, test=50)
    with gateway:
        return census.take(gateway, "ward-3", SCHEMA, held_out, folder, said.append)


def test_a_census_counts_clients_whose_examples_are_like_the_held_out_ones_and_names_the_others(
    gateway: StandIn, tmp_path: Path
) -> None:
    other = Schema(features=[Feature(name="y", dtype="float32", shape=[9])], label=Label(classes=2))
    gateway.enroll("odd", held(other))
    gateway.enroll("stranger", None)
    said: list[str] = []
    found = take(client_of(gateway, tmp_path), tmp_path, said)
    assert [(client.id, client.train, client.test) for client in found.clients] == [
        (n, 100, 10) for n in NAMES
    ]
    assert (found.simulated, found.size, found.examples, found.held_out.test) == (False, 3, 330, 50)
    assert len(said) == 1
    assert said[0].startswith("odd is left out: what it holds as ward-3 is no float32 [2]")
    assert Elsewhere.read(tmp_path / "elsewhere.json") == Elsewhere(
        gateway=gateway.url, dataset="ward-3", clients=3, examples=330
    )


def test_a_large_fleet_is_counted_and_not_listed(
    gateway: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "LISTED", 2)
    found = take(client_of(gateway, tmp_path), tmp_path, [])
    assert ([client.id for client in found.clients], found.size, found.examples) == (["a", "b"], 3, 330)


def test_a_dataset_that_nobody_holds_is_refused(gateway: StandIn, tmp_path: Path) -> None:
    gateway.clients.clear()
    with pytest.raises(DataError, match=r"no client of http.* holds examples of the dataset ward-3 .*enroll"):
        take(client_of(gateway, tmp_path), tmp_path, [])
