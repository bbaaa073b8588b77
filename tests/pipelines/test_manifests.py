"""`fededge manifests`: an overlay as kubectl builds it, with the names of one cluster."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge.cli import main
from pipelines import manifests
from tests.built_manifests import build, check_valid

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
Printed = pytest.CaptureFixture[str]


def printed(capsys: Printed, *arguments: str) -> list[dict[str, Any]]:
    assert main(["manifests", *arguments]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


@needs_kubectl
@pytest.mark.parametrize("overlay", manifests.overlays())
def test_without_changes_it_is_what_kubectl_would_apply(overlay: str, capsys: Printed) -> None:
    assert printed(capsys, overlay) == build(manifests.OVERLAYS / overlay)


@needs_kubectl
def test_runs_endpoints_and_mlflow_go_to_their_namespaces(capsys: Printed) -> None:
    changes = (
        "namespace=team-a",
        "endpoints-namespace=models",
        "mlflow-namespace=tracking",
        "account=runner",
    )
    made = printed(capsys, "k3s", *(part for change in changes for part in ("--set", change)))
    found = {(each["kind"], each["metadata"]["name"]): each for each in made}
    for each in made:
        check_valid(each)
    assert found["NetworkPolicy", "fededge-steps"]["metadata"]["namespace"] == "team-a"
    assert found["Role", "fededge-endpoints"]["metadata"]["namespace"] == "models"
    assert found["Role", "fededge-workers"]["metadata"]["namespace"] == "team-a"
    binding = found["RoleBinding", "fededge-endpoints"]
    assert binding["metadata"]["namespace"] == "models"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "runner", "namespace": "team-a"}]
    assert found["Deployment", "fededge-mlflow"]["metadata"]["namespace"] == "tracking"
    assert ("Namespace", "tracking") in found
    assert not {"kubeflow", "mlflow"} & {each["metadata"].get("namespace") for each in made}


@needs_kubectl
def test_namespaces_of_a_mesh_are_not_changed_by_half(capsys: Printed) -> None:
    assert main(["manifests", "istio", "--set", "namespace=team-a"]) == 2
    assert "copy" in capsys.readouterr().err


@needs_kubectl
def test_our_images_come_from_the_registry_that_is_named_and_others_do_not(
    capsys: Printed, tmp_path: Path
) -> None:
    file = tmp_path / "mlflow.yaml"
    changes = ["--set", "registry=harbor.example:5000/edge", "--set", "tag=abc123", "-o", str(file)]
    assert main(["manifests", "mlflow-replicated", *changes]) == 0
    images = {
        container["image"]
        for each in yaml.safe_load_all(file.read_text())
        for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    }
    assert images == {"harbor.example:5000/edge/platform:abc123", "docker.io/library/postgres:17.6"}


@needs_kubectl
def test_containers_that_prepare_a_pod_come_from_there_too(capsys: Printed) -> None:
    made = printed(capsys, "site", "--set", "registry=harbor.example/edge")
    (pod,) = [each["spec"]["template"]["spec"] for each in made if each["kind"] == "Deployment"]
    images = {each["image"].split(":")[0] for each in pod["containers"] + pod["initContainers"]}
    assert images == {"harbor.example/edge/worker"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "there is no overlay nowhere"),
        (["k3s", "--set", "color=blue"], "give KEY=VALUE with one of the keys namespace"),
        (["k3s", "--set", "namespace"], "give KEY=VALUE"),
        (["k3s", "--set", "namespace=Team A"], "cannot be a namespace"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], told: str, capsys: Printed) -> None:
    assert main(["manifests", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_without_kubectl_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["manifests", "k3s"]) == 2
    assert "kubectl is not installed" in capsys.readouterr().err
