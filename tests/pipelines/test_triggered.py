"""Runs that triggers start, on this machine as processes and on a Kubeflow that answers as the real one."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fededge import processes
from fededge.fleet.functions import operators, triggering
from fededge.fleet.registry.database import Registry
from fededge.protocol import TriggerRequest
from fededge.task import FederatedTask
from pipelines.kubeflow import Kubeflow
from pipelines.triggered import ASK_SECONDS, Triggered
from tests.pipelines.fake_kfp_api import FakeKubeflow, serving
from tests.pipelines.waiting import wait_for

TASK = FederatedTask.from_json('{"name": "tiny", "data": {"source": "digits"}}').to_json()
NOW = 1_800_000_000.0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    operators.first_admin(opened, NOW)
    yield opened
    opened.close()


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKubeflow]:
    for name in ("KFP_NAMESPACE", "KFP_EXISTING_TOKEN", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as fake:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", fake.url)
        yield fake


def put(registry: Registry, target: str, task: str = TASK) -> None:
    request = TriggerRequest.model_validate({"when": "hand", "target": target, "task": task})
    triggering.put(registry, "default", "demand", request, "test", NOW)


def fire(registry: Registry, now: float = NOW) -> None:
    triggering.fire(registry, "default", "demand", "test", now)


def told(registry: Registry) -> tuple[str, str]:
    info = triggering.get(registry, "default", "demand")
    return info.state, info.message


def test_a_run_of_this_machine_is_started_once_and_its_end_is_told(
    registry: Registry, tmp_path: Path
) -> None:
    lines: list[str] = []
    triggered = Triggered(registry, tmp_path, lines.append)
    broken = json.dumps({**json.loads(TASK), "data": {"source": "npz", "path": str(tmp_path / "none.npz")}})
    put(registry, "local", broken)
    fire(registry)
    triggered.look(NOW)
    triggered.look(NOW + 1)
    assert sum("started" in line for line in lines) == 1
    assert told(registry)[0] == "running"

    def ended() -> bool:
        triggered.look(NOW + 2)
        return told(registry)[0] == "idle"

    wait_for(ended)
    message = told(registry)[1]
    assert message.startswith("failed with status 2: see ")
    assert "none.npz" in Path(message.rpartition(" ")[2]).read_text()


def test_a_run_whose_gateway_was_killed_has_ended_and_another_machines_is_left_alone(
    registry: Registry, tmp_path: Path
) -> None:
    put(registry, "local")
    fire(registry)
    (due,) = triggering.due(registry, NOW)
    triggering.started(registry, "default", "demand", due.start, due.start, NOW)
    another = Triggered(registry, tmp_path / "elsewhere", print)
    another.look(NOW + 1)
    assert told(registry)[0] == "running"
    folder = tmp_path / "triggers" / due.start
    folder.mkdir(parents=True)
    (folder / "process").write_text(processes.mark().replace(f" {os.getpid()} ", " 999999999 "))
    Triggered(registry, tmp_path, print).look(NOW + 2)
    assert told(registry) == ("idle", f"ended with its gateway: see {folder / 'log'}")


def test_a_run_on_kubeflow_bears_the_id_of_its_start_and_is_found_again(
    registry: Registry, tmp_path: Path, kubeflow: FakeKubeflow
) -> None:
    put(registry, "kubeflow")
    fire(registry)
    triggered = Triggered(registry, tmp_path, print, Kubeflow)
    triggered.look(NOW)
    ((run, content),) = kubeflow.runs.items()
    assert triggering.get(registry, "default", "demand").run == run
    assert Kubeflow().named(content["display_name"]) == run
    content["state"] = "SUCCEEDED"
    triggered.look(NOW + 1)
    triggered.look(NOW + ASK_SECONDS + 1)
    assert told(registry) == ("idle", "succeeded")


def test_what_cannot_be_started_is_told_and_tried_again_when_it_is_due_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    put(registry, "kubeflow")
    fire(registry)
    Triggered(registry, tmp_path, print).look(NOW)
    state, message = told(registry)
    assert state == "idle"
    assert "Kubeflow" in message


def test_the_loop_ends_its_runs_when_it_is_told_to_end(registry: Registry, tmp_path: Path) -> None:
    put(registry, "local")
    fire(registry, time.time())
    ending = threading.Event()
    triggered = Triggered(registry, tmp_path, print)
    loop = threading.Thread(target=triggered.serve, args=(ending,))
    loop.start()
    wait_for(lambda: bool(triggered._processes))
    (process,) = triggered._processes.values()
    ending.set()
    loop.join(60)
    assert not loop.is_alive()
    assert process.poll() is not None
    assert sys.executable in process.args  # type: ignore[operator]
