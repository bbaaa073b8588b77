"""A store and an MLflow server that are away for a while: steps on a cluster wait for them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge import storage
from fededge import task as tasks
from fededge.errors import TrackingError
from fededge.tracking.connection import connect
from pipelines.federated_training.patience import variables
from pipelines.federated_training.pipeline import compile_to

TASK = tasks.parse("name: a\ndata: {source: digits}\noperation: {retry_seconds: 60}\n")
AWAY = 4.0


class Present(BaseHTTPRequestHandler):
    """Answers for an S3 object of five bytes, and for an MLflow server without experiments."""

    def _handle(self) -> None:
        body = b"hello" if self.path.startswith("/bucket") else b'{"experiments": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = _handle  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def away_for(seconds: float) -> Iterator[str]:
    """The address of a server that listens only after `seconds`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Present, bind_and_activate=False)
    server.server_bind()

    def appear() -> None:
        time.sleep(seconds)
        server.server_activate()
        server.serve_forever()

    threading.Thread(target=appear, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    time.sleep(0.2)
    server.shutdown()
    server.server_close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a step on a cluster."""
    for name, value in variables(60).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    return monkeypatch


def test_a_store_that_comes_back_is_read(patient: pytest.MonkeyPatch) -> None:
    with away_for(AWAY) as address:
        patient.setenv("AWS_ENDPOINT_URL", address)
        assert storage.read("s3://bucket/key") == b"hello"


def test_an_mlflow_that_comes_back_is_used(patient: pytest.MonkeyPatch) -> None:
    with away_for(AWAY) as address:
        patient.setenv("MLFLOW_TRACKING_URI", address)
        assert connect().search_experiments() == []


def test_without_patience_an_mlflow_that_is_away_is_named(patient: pytest.MonkeyPatch) -> None:
    for name in variables(60):
        patient.delenv(name)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        patient.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(TrackingError, match="nobody answers there"):
            connect()


@pytest.mark.parametrize("on_cluster", [True, False])
def test_steps_are_patient_on_a_cluster_alone(tmp_path: Path, on_cluster: bool) -> None:
    compile_to(TASK, tmp_path / "p.yaml", on_cluster=on_cluster)
    spec = next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))
    for executor in spec["deploymentSpec"]["executors"].values():
        said = {each["name"]: each["value"] for each in executor["container"].get("env", ())}
        assert (variables(60).items() <= said.items()) is on_cluster


@pytest.mark.parametrize("seconds", [1, 60, 300, 1200])
def test_mlflows_retries_last_as_long_as_asked_within_its_limits(seconds: float) -> None:
    said = variables(seconds)
    factor, retries = (int(said[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("BACKOFF_FACTOR", "MAX_RETRIES"))
    assert sum(min(factor * 2**n, 120) for n in range(retries)) >= min(seconds, 840)
    assert retries <= 10
    assert factor < 120
