"""Clients spread over replicas hand in the bits of local sites: as processes, and as a job of the Training Operator."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest

from fededge import examples, storage
from fededge.client_reports import TrainingReport
from fededge.documents import ReplicaReport
from fededge.errors import KubeflowError
from fededge.learning.frameworks import model_spec
from fededge.learning.interfaces import ClientRuntime
from fededge.learning.runtimes import pod_api, replica_processes, training_job, workers
from fededge.learning.runtimes.exchange import Exchange
from fededge.learning.runtimes.jobs import JobClients
from fededge.learning.runtimes.local import LocalSites
from fededge.learning.runtimes.pod_api import PodApi
from fededge.learning.runtimes.replica import ReplicaProgram
from fededge.learning.runtimes.replica_processes import ReplicaProcesses
from fededge.learning.runtimes.training_job import SHARDS, job_name
from fededge.learning.runtimes.workers import open_workers
from fededge.task import ClientOptimizer, FederatedTask, Model
from fededge.weights import Weights
from tests.fake_training_operator import POD, FakeTrainingOperator, serving
from tests.fededge.learning.frameworks.conformance import IDENTITY, schema_of, table

pytestmark = pytest.mark.environment("worker")
CLIENTS = ["a", "b", "c", "d"]
"""Of two replicas the first has a and c, the second b and d."""
TEMPLATE = {
    "metadata": {"labels": {"fededge.io/step": "workers"}},
    "spec": {"containers": [{"name": "worker", "image": "worker:1", "env": [{"name": "A", "value": "b"}]}]},
}
RUN, DIGEST = "0b1c", "sha256:" + "2" * 64
DEADLINE = 120.0
DYING = """
import os
from pathlib import Path
from fededge.learning.runtimes import replica
from fededge.learning.runtimes.in_process import InProcessClients
train = InProcessClients.train
def dying(clients, weights, seed, number, cohort, deadline):
    file = Path(os.environ["DEATHS"]) / cohort[0]
    left = int(file.read_text()) if file.exists() else 0
    if left:
        file.write_text(str(left - 1))
        os.kill(os.getpid(), 9)
    yield from train(clients, weights, seed, number, cohort, deadline)
InProcessClients.train = dying
replica.main()
"""
"""A replica that is killed while it trains a client, as often as a file of the client's name says."""


class World:
    """Four clients with a plan of scikit-learn, a store, and what local sites make of them."""

    def __init__(self, folder: Path) -> None:
        schema = schema_of("class")
        model = Model(framework="sklearn", name="SGDClassifier", loss="log_loss")
        spec = model_spec(model, schema, 0)
        self.plan, self.clients = folder / "plan", folder / "clients"
        spec.export_plan(ClientOptimizer(batch_size=8), IDENTITY, self.plan)
        self.weights = spec.initial_weights()
        for number, name in enumerate(CLIENTS):
            for part, count in (("train", 40), ("test", 10)):
                x, y = table("class", count, number + 100 * (part == "test"))
                examples.write(self.clients / name / part, x, y, schema)
        with LocalSites(self.plan, self.clients) as sites:
            self.updates = updates(sites, self.weights)
            self.counts = counts(sites, self.weights)
            self.ranges = ranges(sites, self.weights)


def updates(runtime: ClientRuntime, weights: Weights, number: int = 1) -> dict[str, bytes | str]:
    """What each client hands in for a round: the bytes of its update, or why there is none."""
    return collect(runtime.train(weights, 7, number, CLIENTS, DEADLINE))


def collect(reports: Iterable[TrainingReport]) -> dict[str, bytes | str]:
    return {
        report.client: report.update.read_bytes() if report.update else str(report.failure)
        for report in reports
    }


def exchange_folder(folder: Path) -> Path:
    return folder / "store" / "workers" / f"{RUN}-rounds-0001"


def population(folder: Path) -> Path:
    return folder / "store" / "populations" / DIGEST.removeprefix("sha256:")


def counts(runtime: ClientRuntime, weights: Weights) -> dict[str, Any]:
    return {each.client: each.counts for each in runtime.evaluate(weights, 1, CLIENTS, DEADLINE)}


def ranges(runtime: ClientRuntime, weights: Weights) -> dict[str, Any]:
    return {each.client: each.ranges for each in runtime.ranges(weights, 1, CLIENTS, DEADLINE)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTrainingOperator]:
    """The cluster that this process takes for its own, with a store in `tmp_path`/store."""
    (tmp_path / "operator").mkdir()
    with serving(tmp_path / "operator") as found:
        monkeypatch.setattr(training_job, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(pod_api, "URL", found.url)
        monkeypatch.setattr(pod_api, "ACCOUNT", found.account)
        monkeypatch.setattr(workers, "FOLDER", f"{POD}/clients")
        monkeypatch.setenv("FEDEDGE_STORAGE", (tmp_path / "store").as_uri())
        monkeypatch.setenv("FEDEDGE_WORKER_POD", json.dumps(TEMPLATE))
        become(monkeypatch, "1")
        yield found


def become(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """Let this process be the step in the pod step-`number`."""
    for name, value in (("NAME", f"step-{number}"), ("UID", f"uid-{number}"), ("ACCOUNT", "pipeline-runner")):
        monkeypatch.setenv(f"FEDEDGE_POD_{name}", value)


def spread(world: World, **operation: float) -> JobClients:
    """The clients of one step, spread over two workers."""
    content = {
        "name": "spread",
        "data": {"source": "digits"},
        "partition": {"clients": len(CLIENTS)},
        "model": {"framework": "sklearn", "name": "SGDClassifier", "loss": "log_loss"},
        "learning": {"workers": {"replicas": 2}},
        "operation": operation,
    }
    task = FederatedTask.from_json(json.dumps(content))
    found = open_workers(task, RUN, "rounds-0001", world.plan, world.clients, DIGEST, print)
    assert found is not None
    return found


@pytest.fixture
def opened(world: World, operator: FakeTrainingOperator) -> Iterator[Callable[..., JobClients]]:
    """`opened(...)` as `spread`, ended in the end."""
    with contextlib.ExitStack() as closing:
        yield lambda **operation: closing.enter_context(spread(world, **operation))


def test_processes_hand_in_the_bits_of_local_sites_and_leave_nothing(world: World, tmp_path: Path) -> None:
    root = (tmp_path / "workers").as_uri()
    processes = ReplicaProcesses(ReplicaProgram(root, 2, str(world.clients), 300.0))
    with JobClients(world.plan, world.clients, root, processes, 2, None) as clients:
        assert updates(clients, world.weights) == world.updates
        usage = clients.enough()
        assert counts(clients, world.weights) == world.counts
        assert ranges(clients, world.weights) == world.ranges
        assert "2 of 2 processes run" in processes.state()
    assert usage.bytes_received == sum(map(len, world.updates.values()))
    assert usage.client_seconds > 0
    assert not (tmp_path / "workers").exists()
    assert "0 of 2" in processes.state()


def test_a_job_hands_in_the_bits_of_local_sites_from_folders_that_it_fetched(
    world: World, tmp_path: Path, operator: FakeTrainingOperator
) -> None:
    with spread(world) as clients:
        assert updates(clients, world.weights) == world.updates
        assert counts(clients, world.weights) == world.counts
        pods = operator.pods()
        assert pods == [f"{job_name(RUN, 'rounds-0001')}-worker-{index}" for index in range(2)]
        held = [sorted(f.name for f in (operator.folder / pod / "clients").iterdir()) for pod in pods]
        assert held == [["a", "c"], ["b", "d"]]
        assert len(list(population(tmp_path).iterdir())) == len(CLIENTS)
        assert operator.job["metadata"]["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "Pod", "name": "step-1", "uid": "uid-1"}
        ]
        processes = list(operator.processes.values())
    assert operator.jobs == {}
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * 2, (
        "as process 1 must end"
    )
    assert not exchange_folder(tmp_path).exists()


def test_a_replica_that_dies_is_followed_by_one_that_does_the_rest(
    world: World,
    tmp_path: Path,
    operator: FakeTrainingOperator,
    opened: Callable[..., JobClients],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator.script = DYING
    (tmp_path / "deaths").mkdir()
    monkeypatch.setenv("DEATHS", str(tmp_path / "deaths"))
    (tmp_path / "deaths" / "c").write_text("1")  # is done by the successor
    (tmp_path / "deaths" / "b").write_text("9")  # ends every replica: the others go on without it
    found = updates(opened(), world.weights)
    assert "2 replicas ended while they worked on it" in str(found.pop("b"))
    assert found == {name: world.updates[name] for name in "acd"}
    assert (tmp_path / "deaths" / "b").read_text() == "7"


def test_a_step_that_was_lost_is_followed_by_one_that_finds_its_job_and_what_is_done(
    world: World,
    tmp_path: Path,
    operator: FakeTrainingOperator,
    opened: Callable[..., JobClients],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = opened()
    reports = lost.train(world.weights, 7, 1, CLIENTS, DEADLINE)
    first = next(reports)
    replicas = operator.pods()
    exchange = Exchange(exchange_folder(tmp_path).as_uri())
    order = exchange.read_order()
    number = CLIENTS.index(first.client)
    written = Path(storage.local_path(exchange.update(order, number)) or "").stat().st_mtime_ns

    become(monkeypatch, "2")
    again = opened().train(world.weights, 7, 1, CLIENTS, DEADLINE)
    found = collect([next(again)])
    operator.remove_pod_of_step("uid-1")
    assert operator.pods() == replicas, "it is its successor's by now"
    found |= collect(again)
    assert found == world.updates
    assert exchange.begun(order)[number] == 1
    assert Path(storage.local_path(exchange.update(order, number)) or "").stat().st_mtime_ns == written
    assert [method for method, _ in operator.asked].count("POST") == 1
    del reports


def test_what_failed_is_tried_again_when_it_is_ordered_again(
    world: World, tmp_path: Path, operator: FakeTrainingOperator, opened: Callable[..., JobClients]
) -> None:
    clients = opened()
    operator.full = True
    shown = collect(clients.train(world.weights, 7, 1, CLIENTS, 0.5))
    assert set(shown) == set(CLIENTS)
    assert all(
        "no report within 0.5 s; TFJob" in str(why) and "is Created" in str(why) for why in shown.values()
    )
    spoilt = sorted(population(tmp_path).iterdir())[0]
    kept = spoilt.read_bytes()
    spoilt.write_bytes(kept[:-1] + b"\x01")
    operator.full = False
    found = updates(clients, world.weights)
    (failed,) = [name for name, what in found.items() if isinstance(what, str)]
    assert "was changed or damaged" in str(found[failed])
    spoilt.write_bytes(kept)
    assert updates(clients, world.weights) == world.updates


def test_what_replicas_hand_in_is_not_trusted(
    world: World, tmp_path: Path, operator: FakeTrainingOperator, opened: Callable[..., JobClients]
) -> None:
    exchange = Exchange(exchange_folder(tmp_path).as_uri())

    def hand_in() -> None:
        order = exchange.read_order()
        reports = storage.join(exchange.folder(order), "reports")
        storage.write(storage.join(reports, "0000000.json"), b"\x80 no JSON")
        storage.write(storage.join(reports, "0000001.json"), b'{"format": "fededge-replica-report-9"}')
        storage.write(storage.join(reports, "no number.json"), b"{}")
        storage.write(exchange.update(order, 2), bytes(10_000))
        for number in (2, 3, 77):
            exchange.report(order, number, ReplicaReport())

    operator.full, operator.meanwhile = True, hand_in
    found = updates(opened(), world.weights)
    for client, words in zip(
        CLIENTS, ("is not JSON", "newer than", "larger than", "cannot read"), strict=True
    ):
        assert words in str(found[client])


def test_a_job_that_failed_fails_its_clients_at_once(
    world: World, operator: FakeTrainingOperator, opened: Callable[..., JobClients]
) -> None:
    operator.full, operator.meanwhile = True, lambda: operator.fail("quota is used up")
    found = updates(opened(), world.weights)
    assert set(found) == set(CLIENTS)
    assert all("is Failed, 0 of 2 replicas active: quota is used up" in str(why) for why in found.values())


def test_an_api_server_that_is_away_does_not_hold_up_a_round(
    world: World, operator: FakeTrainingOperator, opened: Callable[..., JobClients]
) -> None:
    clients = opened()
    assert updates(clients, world.weights) == world.updates
    operator.refusals = [(503, "away")] * 10_000
    assert counts(clients, world.weights) == world.counts
    operator.refusals = []


def test_replicas_that_nobody_asks_end_well_and_are_made_again_when_somebody_does(
    world: World, operator: FakeTrainingOperator, opened: Callable[..., JobClients]
) -> None:
    clients = opened(round_deadline_seconds=0.1, evaluation_deadline_seconds=0.1, worker_timeout_seconds=0.1)
    assert updates(clients, world.weights) == world.updates
    for process in operator.processes.values():
        assert process.wait(60) == 0
    assert counts(clients, world.weights) == world.counts
    assert [method for method, _ in operator.asked].count("POST") >= 2


def test_a_replica_takes_no_other_shards_than_it_was_started_for(
    world: World, tmp_path: Path, operator: FakeTrainingOperator, opened: Callable[..., JobClients]
) -> None:
    operator.full = True
    collect(opened().train(world.weights, 7, 1, CLIENTS, 0.0))
    shards = exchange_folder(tmp_path) / "shards.json"
    shards.write_bytes(shards.read_bytes() + b" ")
    program = ReplicaProgram(shards.parent.as_uri(), 2, str(tmp_path / "d"), 1.0)
    done = subprocess.run(
        [sys.executable, *program.arguments(operator.job["metadata"]["annotations"][SHARDS], 0)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode != 0
    assert "IntegrityError" in done.stderr


def test_a_replica_that_ends_again_and_again_is_given_up_with_its_last_words(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_processes, "LIVES", 2)
    root = (tmp_path / "workers").as_uri()
    data = tmp_path / "file"
    data.touch()  # where a folder is to be
    processes = ReplicaProcesses(ReplicaProgram(root, 1, str(data), 300.0))
    with JobClients(world.plan, world.clients, root, processes, 1, None) as clients:
        found = collect(clients.train(world.weights, 7, 1, ["a"], DEADLINE))
    assert "replica 0 ended 2 times" in str(found["a"])
    assert "FileExistsError" in str(found["a"])


@pytest.mark.parametrize(
    ("refusals", "words"),
    [
        ([(404, "")], "Install Kubeflow's Training Operator"),
        (
            [(403, "tfjobs is forbidden")],
            r"tfjobs is forbidden\. Give the run's service account the rights of manifests/base/workers",
        ),
    ],
)
def test_a_cluster_that_refuses_is_told_with_its_remedy(
    world: World, operator: FakeTrainingOperator, opened: Callable[..., JobClients], refusals: Any, words: str
) -> None:
    operator.refusals = refusals
    operator.knows.clear()
    with pytest.raises(KubeflowError, match=words):
        updates(opened(), world.weights)


def test_an_api_server_that_is_away_for_a_moment_is_asked_again_with_the_token_of_that_moment(
    operator: FakeTrainingOperator,
) -> None:
    api = PodApi(operator.url, operator.account, 30.0)
    operator.refusals = [(503, "starting"), (429, "too many")]
    assert api.get("/apis/kubeflow.org/v1/namespaces/kubeflow/tfjobs/a") is None
    assert len(operator.asked) == 3
    (operator.account / "token").write_text("renewed")
    assert api.get("/apis/kubeflow.org/v1/namespaces/kubeflow/tfjobs/a") is None
    operator.refusals = [(500, "broken")]
    with pytest.raises(KubeflowError, match=r"cannot be asked to GET .*it answers 500"):
        PodApi(operator.url, operator.account, 0.0).get("/x")
    api.close()


def test_an_api_server_that_the_cluster_does_not_vouch_for_is_told_no_token(
    operator: FakeTrainingOperator, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(operator.account, other)
    shutil.copy(certifi.where(), other / "ca.crt")
    with pytest.raises(KubeflowError, match="CERTIFICATE_VERIFY_FAILED"):
        PodApi(operator.url, other, 0.0).get("/x")
    assert operator.asked == []


def test_on_this_machine_workers_are_processes_no_more_than_cores(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    with spread(world) as clients:
        assert collect(clients.train(world.weights, 7, 1, ["b"], DEADLINE)) == {"b": world.updates["b"]}
    assert "1 of 2 workers, one for each core of this machine" in capsys.readouterr().out


def test_a_step_that_was_not_compiled_with_workers_says_so(
    world: World, operator: FakeTrainingOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_WORKER_POD", "[")
    with pytest.raises(KubeflowError, match="FEDEDGE_WORKER_POD is no JSON"):
        spread(world)
    monkeypatch.delenv("FEDEDGE_WORKER_POD")
    with pytest.raises(KubeflowError, match="compile the pipeline for this task again"):
        spread(world)


def test_a_process_outside_a_cluster_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pod_api, "ACCOUNT", tmp_path / "none")
    with pytest.raises(KubeflowError, match="runs in no pod"):
        PodApi.own(1.0)


@pytest.mark.slow
def test_keras_clients_hand_in_the_bits_of_local_sites(prepared: Any, make_task: Any, tmp_path: Path) -> None:
    task = make_task()
    plan, weights, ids = prepared.plan(task), prepared.spec(task).initial_weights(), prepared.ids[:2]
    root = (tmp_path / "workers").as_uri()
    processes = ReplicaProcesses(ReplicaProgram(root, 1, str(prepared.clients), 300.0))
    with (
        JobClients(plan, prepared.clients, root, processes, 1, None) as replicas,
        LocalSites(plan, prepared.clients) as sites,
    ):
        found = [collect(each.train(weights, 3, 1, ids, DEADLINE)) for each in (replicas, sites)]
    assert all(isinstance(update, bytes) for update in found[0].values())
    assert found[0] == found[1]
