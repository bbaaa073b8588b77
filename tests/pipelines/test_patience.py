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
from fededge.errors import StorageError, TrackingError
from fededge.tracking.connection import connect
from pipelines.federated_training.patience import variables
from pipelines.federated_training.pipeline import compile_to

TASK = tasks.parse("name: a\ndata: {source: digits}\noperation: {retry_seconds: 60}\n")
AWAY = 4.0


class Present(BaseHTTPRequestHandler):
    """Answers for an S3 object of five bytes, for an MLflow server without experiments, and for a blob that is written
    to Google's or Azure's store.
    """

    def _handle(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"hello" if self.path.startswith("/bucket") else b'{"experiments": []}'
        self.send_response(201 if self.path.startswith("/account") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815 (http.server's names)

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


AZURE = "DefaultEndpointsProtocol=http;AccountName=account;AccountKey=a2V5;BlobEndpoint={address}/account;"
REMOTE = [
    ("gs://bucket/key", "FSSPEC_GS", '{{"token": "anon", "project": "p", "endpoint_url": "{address}"}}'),
    ("abfs://bucket/key", "AZURE_STORAGE_CONNECTION_STRING", AZURE),
]


@pytest.fixture
def hasty(patient: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Google's and Azure's clients give up at once, where they take half a minute and more by themselves."""
    from azure.storage.blob._shared.policies_async import ExponentialRetry
    from gcsfs import retry

    async def at_once(seconds: float) -> None:
        """Go on."""

    patient.setattr(retry.asyncio, "sleep", at_once)
    patient.setattr(ExponentialRetry, "get_backoff_time", lambda self, settings: 0.0)
    return patient


@pytest.mark.parametrize(("url", "variable", "value"), REMOTE)
def test_a_store_whose_client_gave_up_is_asked_again(
    hasty: pytest.MonkeyPatch, url: str, variable: str, value: str
) -> None:
    with away_for(AWAY) as address:
        hasty.setenv(variable, value.format(address=address))
        _set_of_environment()
        storage.write(url, b"hello")


@pytest.mark.parametrize(("url", "variable", "value"), REMOTE)
def test_without_patience_a_store_that_is_away_is_named(
    hasty: pytest.MonkeyPatch, url: str, variable: str, value: str
) -> None:
    hasty.delenv("FEDEDGE_STORE_RETRY_SECONDS")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        hasty.setenv(variable, value.format(address=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        _set_of_environment()
        with pytest.raises(StorageError, match=f"cannot write {url}"):
            storage.write(url, b"hello")


def _set_of_environment() -> None:
    """Let fsspec read its variables, as it does when a step starts."""
    from fsspec.config import conf, set_conf_env

    conf.pop("gs", None)
    set_conf_env(conf)


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
