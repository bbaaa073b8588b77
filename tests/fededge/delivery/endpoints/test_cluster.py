"""Applying to a Kubernetes API server, here a fake one that speaks the real paths of its resources."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge.delivery.endpoints import cluster
from fededge.delivery.endpoints import deployment as endpoints
from fededge.delivery.endpoints.cluster import Cluster
from fededge.documents import Endpoint, ModelVersion
from fededge.errors import EndpointError
from fededge.ports import free_port
from fededge.task import Endpoint as Wanted
from tests.fake_cluster import FakeCluster, kubeconfig, serving
from tests.model_versions import model_version, published

WANTED = Wanted(name="digits", canary_percent=20)


def version(number: int, url: str = "s3://models/float32.tflite") -> ModelVersion:
    variant = published(url, digest="sha256:" + str(number) * 64, bytes=1)
    return model_version([variant], name="digits", version=number)


def deploy(number: int = 1, url: str = "s3://models/float32.tflite", wanted: Wanted = WANTED) -> Endpoint:
    return endpoints.deploy(wanted, 1, version(number, url), "image")


def shares(manifest: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Version and traffic of each predictor."""
    return {
        each["name"]: (each["labels"]["fededge.io/model-version"], each["traffic"])
        for each in manifest["spec"]["predictors"]
    }


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    fake = FakeCluster()
    with serving(fake, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
        monkeypatch.setattr(cluster, "time", fake.clock())
        yield fake


def test_a_deployment_is_applied_by_the_server(api: FakeCluster) -> None:
    document = deploy()
    assert api.patches == [
        ("application/apply-patch+yaml", {"fieldManager": ["fededge"], "force": ["True"]}),
    ]
    assert api.objects["digits"] == document.manifest
    assert document.rest == "http://digits-main.default.svc.cluster.local:9000"
    assert document.grpc == "digits-main.default.svc.cluster.local:9500"


def test_applied_again_it_says_the_same(api: FakeCluster) -> None:
    assert deploy() == deploy()


def test_a_new_version_comes_as_a_canary_of_the_one_that_stands(api: FakeCluster) -> None:
    deploy()
    document = deploy(2)
    assert shares(api.objects["digits"]) == {"main": ("1", 80), "canary": ("2", 20)}
    assert document.rest == "http://digits-canary.default.svc.cluster.local:9000"


def test_a_canary_without_an_ingress_is_told_to_have_no_share(
    api: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reasons of the two conditions are those of a real cluster without and with Istio."""
    none = {"type": "istioVirtualServicesReady", "reason": "No VirtualServices defined"}
    api.status = {"state": "Available", "conditions": [none]}
    deploy()
    deploy(2)
    assert "no Istio or Ambassador divides the traffic of endpoint digits" in capsys.readouterr().out
    api.status = {
        "state": "Available",
        "conditions": [{**none, "reason": "All VirtualServices created"}],
    }
    deploy(3)
    assert "no Istio" not in capsys.readouterr().out


def test_a_canary_is_promoted_main_first_and_removed_when_that_answers(api: FakeCluster) -> None:
    deploy()
    deploy(2)
    deploy(2, wanted=Wanted(name="digits"))
    assert [shares(each) for each in api.applied[2:]] == [
        {"main": ("2", 80), "canary": ("2", 20)},
        {"main": ("2", 100)},
    ]


def test_no_canary_is_put_beside_a_version_that_does_not_answer(api: FakeCluster) -> None:
    deploy()
    api.broken.add("digits-main-0-model")
    with pytest.raises(EndpointError, match="version 2 does not run"):
        deploy(2, wanted=Wanted(name="digits"))
    with pytest.raises(EndpointError, match="version 3 does not run"):
        deploy(3)
    assert shares(api.applied[-1]) == {"main": ("3", 100)}


def test_a_canary_that_does_not_start_holds_up_no_other_version(api: FakeCluster) -> None:
    deploy()
    api.broken.add("digits-canary-0-model")
    with pytest.raises(EndpointError, match="version 2 does not run"):
        deploy(2)
    deploy(1, wanted=Wanted(name="digits"))
    assert shares(api.applied[-1]) == {"main": ("1", 100)}
    assert len(api.applied) == 3


def test_behind_the_executor_what_an_update_costs_is_told(
    api: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Wanted(name="digits", executor=True)
    assert deploy(wanted=wanted).rest.endswith(":8000")
    assert "executor" not in capsys.readouterr().out
    deploy(2, wanted=wanted)
    assert "clients see refused connections" in capsys.readouterr().out


def test_a_model_that_the_cluster_cannot_read_is_refused_before_anything_is_applied(
    api: FakeCluster,
) -> None:
    with pytest.raises(EndpointError, match=r"a cluster cannot read file:///x\.tflite: set FEDEDGE_STORAGE"):
        deploy(1, "file:///x.tflite")
    assert api.objects == {}


def test_a_failed_deployment_is_told_with_its_reason(api: FakeCluster) -> None:
    api.status = {"state": "Failed", "description": "no node has room"}
    with pytest.raises(EndpointError, match="Seldon says Failed: no node has room"):
        deploy()
    assert api.now <= 60


def test_a_deployment_that_does_not_become_available_is_given_up(api: FakeCluster) -> None:
    api.status = {"state": "Creating"}
    with pytest.raises(EndpointError, match="version 1 does not run at default/digits after 600 s"):
        deploy()


@pytest.mark.parametrize(
    ("code", "message"), [(403, "fededge may not get it"), (404, "the server could not find the resource")]
)
def test_what_the_cluster_refuses_is_told(api: FakeCluster, code: int, message: str) -> None:
    api.refusals, api.refuses = [(code, message)], True
    with pytest.raises(EndpointError, match=f"{code} {message}"):
        deploy()


def test_a_cluster_that_nobody_runs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, port))
    with pytest.raises(
        EndpointError,
        match=f"cannot read SeldonDeployment default/digits from the cluster at http://127.0.0.1:{port}",
    ):
        deploy()


def test_no_configured_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(EndpointError, match="no Kubernetes cluster is configured"):
        Cluster()
