"""Tracking and registry against a real MLflow server, joined over HTTP."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fededge.delivery import registry
from fededge.documents import RoundRecord, Rounds
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun
from tests.registered_models import register_version

DEADLINE = 60.0


@pytest.fixture
def server(
    empty_store: Path, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """URL of a server of its own, which the tracking URI points to."""
    url = f"http://127.0.0.1:{free_port}"
    database = tmp_path / "server.db"
    database.write_bytes(empty_store.read_bytes())
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(free_port)),
        *("--backend-store-uri", f"sqlite:///{database}"),
        *("--artifacts-destination", str(tmp_path / "artifacts")),
    ]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(url, process, tmp_path / "server.log")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


ROUND = RoundRecord(
    round=1, cohort=["a"], reported=["a"], examples=9, loss=0.5, score=0.8, seconds=1.0, at=1_700_000_000.0
)


def test_a_run_is_tracked_and_registered_over_http(server: str, task: FederatedTask) -> None:
    tracked = TrackedRun.join("run-1", task)
    with tracked.step("run_rounds-0001") as step:
        step.round(ROUND, "accuracy")
        step.record("rounds-0001", Rounds(rounds=[ROUND]))
    again = TrackedRun.join("run-1", task)
    assert again.run_id == tracked.run_id
    assert Rounds.from_content(again.records()["rounds-0001"]).rounds == [ROUND]
    assert again.records()["steps/run_rounds-0001"]["status"] == "succeeded"
    assert tracked.url.startswith(f"{server}/#/experiments/")
    with urllib.request.urlopen(f"{server}/api/2.0/mlflow/runs/get?run_id={tracked.run_id}") as answer:
        assert b'"train/loss"' in answer.read()

    version, _ = register_version(task, "run-1")
    champion = registry.champion("digits")
    assert champion
    assert (champion.version, champion.digest) == (version.version, version.weights_digest)


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"mlflow server did not start: {log.read_text()[-2000:]}")
