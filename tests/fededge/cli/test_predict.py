"""`fededge predict` against a real endpoint."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
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
