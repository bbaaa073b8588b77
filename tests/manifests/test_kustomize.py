"""The kustomize manifests build offline, and what they build is valid Kubernetes."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
FOLDERS = sorted(file.parent for file in MANIFESTS.rglob("kustomization.yaml"))


def build(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(MANIFESTS)))
def test_what_is_built_is_valid(folder: Path) -> None:
    built = build(folder)
    assert built
    for each in built:
        kubernetes_validate.validate(each, "1.32", strict=True)


def test_the_rights_are_those_that_a_deployment_uses() -> None:
    role = next(each for each in build(MANIFESTS / "base" / "endpoints") if each["kind"] == "Role")
    assert role["rules"] == [
        {
            "apiGroups": ["machinelearning.seldon.io"],
            "resources": ["seldondeployments"],
            "verbs": ["get", "create", "patch"],
        },
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]


def test_nobody_may_connect_to_a_step() -> None:
    (policy,) = build(MANIFESTS / "base" / "steps")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy["spec"]


def test_in_a_profile_the_rights_go_to_its_editor() -> None:
    (binding,) = [each for each in build(MANIFESTS / "overlays" / "profile") if each["kind"] == "RoleBinding"]
    namespace = binding["metadata"]["namespace"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "default-editor", "namespace": namespace}
    ]
