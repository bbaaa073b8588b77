"""What the doctor's pods find, against an API that runs them as processes of this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge import task as tasks
from fededge.delivery.api_server import ApiServer
from fededge.delivery.readiness import Finding
from fededge.ports import free_port
from pipelines.doctor import probes

from .fake_api_server import serving
from .fake_pods import FakePods, encoded

TASK = tasks.parse("name: a\ndata: {source: digits}\nendpoint: {name: a, namespace: models}\n")
CONFIGURATION = "/api/v1/namespaces/kubeflow/secrets/fededge-config"
POLICY = "/apis/networking.k8s.io/v1/namespaces/kubeflow/networkpolicies/fededge-steps"
STORE, ISOLATION = "blob store from models", "isolation of steps"


@pytest.fixture
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakePods, dict[str, Any]]]:
    """The pods, and the table of all else that the API answers."""
    port = free_port()
    monkeypatch.setattr(probes, "PORT", port)
    monkeypatch.setattr(probes, "POLL", 0.05)
    made = FakePods(tmp_path, port, {("models", "fededge-storage"): {"MARK": "of-the-secret"}})
    (tmp_path / "store").mkdir()
    table = {
        CONFIGURATION: {"data": encoded({"FEDEDGE_STORAGE": str(tmp_path / "store")})},
        POLICY: {"kind": "NetworkPolicy"},
    }
    with serving(table, tmp_path, monkeypatch, made):
        yield made, table
    assert made.running == {}, "all pods are removed"


def looked() -> dict[str, Finding]:
    return {finding.check: finding for finding in probes.look(ApiServer(), TASK)}


def test_a_store_that_serves_and_policies_that_are_enforced_are_good(
    pods: tuple[FakePods, dict[str, Any]], tmp_path: Path
) -> None:
    found = looked()
    assert [each.check for each in found.values() if not each.good] == [], found
    assert found[STORE].found == f"{tmp_path / 'store'} can be written and read"
    images = [
        pod["spec"]["containers"][0]["image"].rpartition("/")[2].partition(":")[0] for pod in pods[0].taken
    ]
    assert images == ["serving", "platform", "platform", "platform"]
    labels = [pod["metadata"].get("labels", {}).get("fededge.io/step") for pod in pods[0].taken]
    assert labels == [None, None, "doctor", None]


def test_a_store_that_does_not_serve_and_policies_that_nobody_enforces_are_told_in_the_pods_words(
    pods: tuple[FakePods, dict[str, Any]], tmp_path: Path
) -> None:
    pods[0].enforced = False
    (tmp_path / "file").touch()
    pods[1][CONFIGURATION] = {"data": encoded({"FEDEDGE_STORAGE": str(tmp_path / "file")})}
    found = looked()
    assert found[STORE].found.startswith(f"cannot write {tmp_path / 'file'}/doctor/")
    assert "NetworkPolicies are not enforced" in found[ISOLATION].found
    assert not any(each.good for each in found.values())


def test_an_image_that_cannot_be_pulled_and_a_policy_that_is_missing_are_told(
    pods: tuple[FakePods, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.0)
    pods[0].waiting = "ImagePullBackOff"
    pods[1][POLICY] = 404
    found = looked()
    assert "ImagePullBackOff" in found[STORE].found
    assert "there is no NetworkPolicy kubeflow/fededge-steps" in found[ISOLATION].found


def test_a_user_who_may_not_start_pods_is_told_that_it_is_not_known(
    pods: tuple[FakePods, dict[str, Any]],
) -> None:
    for where in ("kubeflow", "models"):
        pods[1][f"/api/v1/namespaces/{where}/pods"] = 403
    found = looked()
    assert all(each.good for each in found.values())
    assert {each.found for each in found.values()} == {"not known: this user may not look"}
