"""The MLflow server of manifests/base/mlflow, as a process: its own command and variables, in a folder of the test."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from fededge.ports import free_port
from tests.built_manifests import MANIFESTS, build, pods

VOLUME = "/var/lib/mlflow"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of the running server, and the folder that stands for its volume."""
    folder = tmp_path_factory.mktemp("mlflow")
    built = build(MANIFESTS / "base" / "mlflow")
    (pod,) = pods(built)
    (container,) = pod["spec"]["containers"]
    (settings,) = [each["data"] for each in built if each["kind"] == "ConfigMap"]
    port = free_port()
    listening = {"0.0.0.0": "127.0.0.1", "5000": str(port), "2": "1"}
    command = [listening.get(part, part) for part in container["command"]]
    given = {name: value.replace(VOLUME, str(folder)) for name, value in settings.items()}
    given |= {each["name"]: each["value"] for each in container["env"] if each["name"] != "HOME"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **given},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(port, process, folder / "log")
            yield port, folder
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(160):
        assert process.poll() is None, log.read_text()
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
            return
        except requests.ConnectionError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def status(port: int, host: str, path: str) -> int:
    answer = requests.get(f"http://127.0.0.1:{port}{path}", headers={"Host": host}, timeout=10)
    return answer.status_code


@pytest.mark.parametrize(
    "host",
    [
        "fededge-mlflow:5000",
        "fededge-mlflow.mlflow:5000",
        "fededge-mlflow.mlflow.svc.cluster.local:5000",
        "localhost:5000",
    ],
)
def test_it_answers_by_each_name_of_its_service(server: tuple[int, Path], host: str) -> None:
    assert status(server[0], host, SEARCH) == 200


def test_it_refuses_another_name_but_tells_the_kubelet_that_it_is_well(server: tuple[int, Path]) -> None:
    assert status(server[0], "rebound.example:5000", SEARCH) == 403
    assert status(server[0], "10.42.0.7:5000", "/health") == 200


def test_it_keeps_artifacts_for_clients_that_have_no_rights_to_its_store(
    server: tuple[int, Path], tmp_path: Path
) -> None:
    port, folder = server
    client = MlflowClient(f"http://localhost:{port}")
    experiment = client.create_experiment("digits")
    run = client.create_run(experiment)
    (tmp_path / "report.html").write_text("a report")
    client.log_artifact(run.info.run_id, str(tmp_path / "report.html"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    (kept,) = (folder / "artifacts").rglob("report.html")
    assert kept.read_text() == "a report"
