"""`fededge predict` against a real endpoint."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from fededge import storage
from fededge.cli import main
from fededge.delivery.endpoints import local as local_endpoint
from fededge.documents import VariantFile
from tests.fake_cluster import FakeCluster, serving

TINY = Path(__file__).resolve().parents[2] / "serving" / "fixtures" / "tiny.tflite"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    data = TINY.read_bytes()
    variant = VariantFile(kind="float32", url=str(TINY), digest=storage.digest(data), bytes=len(data))
    yield local_endpoint.start("tiny", variant, 3).rest
    local_endpoint.stop("tiny")


def test_images_are_answered(url: str, tmp_path: Path, capsys: Captured) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "x.png")
    np.save(tmp_path / "x.npy", np.zeros((2, 28, 28), np.uint8))
    assert main(["predict", url, str(tmp_path / "x.png"), str(tmp_path / "x.npy")]) == 0
    output = capsys.readouterr().out
    assert "x.npy[1]" in output
    assert "answered by version 3, float32, sha256:" in output


@pytest.fixture
def cluster(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A fake API server with the endpoint `digits`, whose pod is the real server at `url`."""
    fake = FakeCluster()
    fake.objects["digits"] = {
        "kind": "SeldonDeployment",
        "spec": {"predictors": [{"name": "main", "annotations": {"seldon.io/no-engine": "true"}}]},
    }
    fake.ready, fake.forwards = ["digits-main-0-model"], {9000: int(url.rpartition(":")[2])}
    with serving(fake, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
        yield fake


def test_an_endpoint_on_a_cluster_is_found_by_its_name(
    cluster: FakeCluster, tmp_path: Path, capsys: Captured
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3000, 28, 28), np.uint8))  # more than one frame
    assert main(["predict", "digits", str(tmp_path / "x.npy"), "--on", "kubeflow"]) == 0
    output = capsys.readouterr().out
    assert "x.npy[2999]" in output
    assert "answered by version 3, float32, sha256:" in output


def test_an_endpoint_that_a_cluster_does_not_have_or_that_is_not_ready_is_told(
    cluster: FakeCluster, tmp_path: Path, capsys: Captured
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 28, 28), np.uint8))
    cluster.ready = []
    for name, told in (("digits", "no pod of default/digits-main-0-model is ready"), ("x", "no endpoint x")):
        assert main(["predict", name, str(tmp_path / "x.npy"), "--on", "kubeflow"]) == 2
        assert told in capsys.readouterr().err


class Gateway(BaseHTTPRequestHandler):
    """An ingress before the endpoint: it routes by host and path, and lets nobody in without the token."""

    endpoint = ""
    prefix = "/seldon/models/digits"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, content = 404, b"no route"
        if self.headers["Authorization"] != "Bearer of-a-test":
            status, content = 403, b"RBAC: access denied"
        elif self.headers["Host"] == "digits.models.example" and self.path.startswith(self.prefix):
            told = {"Content-Type": "application/json"}
            url = self.endpoint + self.path.removeprefix(self.prefix)
            answer = requests.request(self.command, url, data=body or None, headers=told, timeout=20)
            status, content = answer.status_code, answer.content
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _handle  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def ingress(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file with the token for an ingress, which the cluster file tells of; no Kubernetes API is configured."""
    monkeypatch.setattr(Gateway, "endpoint", url)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("FEDEDGE_CLUSTER_FILE", str(tmp_path / "cluster.yaml"))
    (tmp_path / "token").write_text("of-a-test\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/seldon/{{namespace}}/{{name}}"
        (tmp_path / "cluster.yaml").write_text(
            f'ingress: {{url: "{address}", host: "{{name}}.{{namespace}}.example", token_file: token}}\n'
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "token"
        server.shutdown()


def test_an_endpoint_is_asked_through_the_ingress_that_the_cluster_file_names(
    ingress: Path, tmp_path: Path, capsys: Captured
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 28, 28), np.uint8))
    asked = ["predict", "digits", str(tmp_path / "x.npy"), "--on", "kubeflow", "--namespace", "models"]
    assert main(asked) == 0
    assert "answered by version 3, float32, sha256:" in capsys.readouterr().out
    ingress.write_text("another")
    assert main(asked) == 2
    assert "wants another token" in capsys.readouterr().err
    ingress.unlink()
    assert main(asked) == 2
    assert "ingress.token_file: cannot read" in capsys.readouterr().err


def test_images_of_another_shape_are_an_error_before_they_are_sent(
    url: str, tmp_path: Path, capsys: Captured
) -> None:
    Image.new("L", (56, 56)).save(tmp_path / "large.png")
    np.save(tmp_path / "color.npy", np.zeros((1, 28, 28, 3), np.uint8))
    np.save(tmp_path / "wide.npy", np.zeros((1, 14, 56, 1), np.uint8))
    for name, told in (("large.png", "56 x 56"), ("color.npy", "28, 28, 3"), ("wide.npy", "14, 56, 1")):
        assert main(["predict", url, str(tmp_path / name)]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert told in message
        assert "the endpoint takes" in message


@pytest.mark.parametrize(
    "address", ["http://[x", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://a..b"]
)
def test_a_malformed_url_is_one_message(address: str, tmp_path: Path, capsys: Captured) -> None:
    np.save(tmp_path / "x.npy", np.zeros((28, 28), np.uint8))
    assert main(["predict", address, str(tmp_path / "x.npy")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert address in message
