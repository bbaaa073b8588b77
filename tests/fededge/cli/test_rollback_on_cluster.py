"""`fededge rollback --on kubeflow` against a fake API server that speaks the real paths of its resources."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fededge import storage
from fededge.cli import main
from fededge.delivery.endpoints import cluster, deployment
from fededge.errors import EndpointError
from fededge.task import parse
from tests.fake_cluster import FakeCluster, serving
from tests.registered_models import register_version

pytestmark = pytest.mark.usefixtures("store")

TASK = parse(
    "{name: digits, data: {source: digits}, variants: [{kind: float32}], "
    "endpoint: {name: digits, canary_percent: 10}}"
)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    fake = FakeCluster()
    monkeypatch.setenv("FEDEDGE_PLATFORM", "kubernetes")
    monkeypatch.setattr(cluster, "_readable", lambda _: None)  # the store is a folder here
    with serving(fake, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
        monkeypatch.setattr(cluster, "time", fake.clock())
        yield fake


def served(api: FakeCluster) -> list[tuple[str, str]]:
    """Predictors and the digests that they serve."""
    return [
        (each["name"], each["graph"]["parameters"][1]["value"])
        for each in api.applied[-1]["spec"]["predictors"]
    ]


def test_one_command_goes_back_from_a_version_that_does_not_start(
    api: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert TASK.endpoint
    promoted = TASK.endpoint.model_copy(update={"canary_percent": None})
    first, _ = register_version(TASK, "run-1", {"float32": b"model 1"}, weights=b"1")
    deployment.deploy(promoted, 1, first, "image")
    second, _ = register_version(TASK, "run-2", {"float32": b"model 2"}, weights=b"2")
    api.broken.add("digits-main-0-model")
    with pytest.raises(EndpointError, match="version 2 does not run at default/digits"):
        deployment.deploy(promoted, 1, second, "image")
    assert served(api) == [("main", storage.digest(b"model 2"))]
    api.broken.clear()
    assert main(["rollback", "digits", "--why", "does not start", "--on", "kubeflow"]) == 0
    assert served(api) == [("main", storage.digest(b"model 1"))]  # at once, not as a canary
    assert "endpoint digits serves version 1 at http://digits-main." in capsys.readouterr().out.replace(
        "\n", " "
    )
