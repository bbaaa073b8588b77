"""Applying to a Kubernetes API server, here a fake one that speaks the real paths of custom resources."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from fededge.delivery.endpoints import cluster
from fededge.delivery.endpoints import deployment as endpoints
from fededge.delivery.endpoints.cluster import Cluster
from fededge.documents import Endpoint, ModelVersion
from fededge.errors import EndpointError
from fededge.task import Endpoint as Wanted
from tests.model_versions import model_version, published

PREFIX = "/apis/machinelearning.seldon.io/v1/namespaces/default/seldondeployments/"
WANTED = Wanted(name="digits", canary_percent=20)


def version(number: int, url: str = "s3://models/float32.tflite") -> ModelVersion:
    variant = published(url, digest="sha256:" + str(number) * 64, bytes=1)
    return model_version([variant], name="digits", version=number)


def deploy(number: int = 1, url: str = "s3://models/float32.tflite") -> Endpoint:
    return endpoints.deploy(WANTED, 1, version(number, url), "image")


class FakeApi(BaseHTTPRequestHandler):
    objects: dict[str, dict[str, Any]]
    patches: list[tuple[str, dict[str, list[str]]]]
    state: str
    refusal: tuple[int, str] | None

    def do_GET(self) -> None:
        name = self.path.removeprefix(PREFIX)
        if self.refusal:
            self._answer(self.refusal[0], {"message": self.refusal[1]})
        elif name in self.objects:
            status = {"state": self.state, "description": "no node has room"}
            self._answer(200, {**self.objects[name], "status": status})
        else:
            self._answer(404, {"message": f'seldondeployments "{name}" not found'})

    def do_PATCH(self) -> None:
        url = urlsplit(self.path)
        self.patches.append((self.headers["Content-Type"], parse_qs(url.query)))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.objects[url.path.removeprefix(PREFIX)] = body
        self._answer(200, body)

    def _answer(self, code: int, content: dict[str, Any]) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


def kubeconfig(folder: Path, port: int) -> str:
    named = {"cluster": "c", "user": "u"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": named}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return str(file)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeApi]]:
    class Api(FakeApi):
        objects = {}
        patches = []
        state = "Available"
        refusal = None

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, server.server_address[1]))
        monkeypatch.setattr(cluster, "POLL", 0.01)
        yield Api
        server.shutdown()


def test_a_deployment_is_applied_by_the_server(api: type[FakeApi]) -> None:
    document = deploy()
    assert api.patches == [
        ("application/apply-patch+yaml", {"fieldManager": ["fededge"], "force": ["True"]}),
    ]
    assert api.objects["digits"] == document.manifest
    assert document.rest == "http://digits-main.default.svc.cluster.local:8000"
    assert document.grpc == "digits-main.default.svc.cluster.local:5001"


def test_applied_again_it_says_the_same(api: type[FakeApi]) -> None:
    assert deploy() == deploy()


def test_a_new_version_comes_as_a_canary_of_the_one_that_stands(api: type[FakeApi]) -> None:
    deploy()
    document = deploy(2)
    assert [each["traffic"] for each in api.objects["digits"]["spec"]["predictors"]] == [80, 20]
    assert document.rest == "http://digits-canary.default.svc.cluster.local:8000"


def test_a_model_that_the_cluster_cannot_read_is_refused_before_anything_is_applied(
    api: type[FakeApi],
) -> None:
    with pytest.raises(EndpointError, match=r"a cluster cannot read file:///x\.tflite: set FEDEDGE_STORAGE"):
        deploy(1, "file:///x.tflite")
    assert api.objects == {}


def test_a_failed_deployment_is_told_with_its_reason(api: type[FakeApi]) -> None:
    api.state = "Failed"
    with pytest.raises(EndpointError, match="default/digits is Failed: no node has room"):
        deploy()


def test_a_deployment_that_does_not_become_available_is_given_up(api: type[FakeApi]) -> None:
    api.state = "Creating"
    api.objects["digits"] = {"kind": "SeldonDeployment", "spec": {"predictors": []}}
    with pytest.raises(EndpointError, match="default/digits is Creating"):
        Cluster().wait("default", "digits", deadline=0.05)


@pytest.mark.parametrize(
    ("code", "message"), [(403, "fededge may not get it"), (404, "the server could not find the resource")]
)
def test_what_the_cluster_refuses_is_told(api: type[FakeApi], code: int, message: str) -> None:
    api.refusal = (code, message)
    with pytest.raises(EndpointError, match=f"{code} {message}"):
        deploy()


def test_a_cluster_that_nobody_runs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, port))
    with pytest.raises(
        EndpointError, match=f"cannot read default/digits from the cluster at http://127.0.0.1:{port}"
    ):
        deploy()


def test_no_configured_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(EndpointError, match="no Kubernetes cluster to deploy to"):
        Cluster()
