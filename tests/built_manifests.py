"""What kustomize builds of manifests/, and what Kubernetes would say to it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
SCHEMAS = Path(__file__).with_name("manifests") / "schemas"
Manifest = dict[str, Any]
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def build(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k folder` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def check_valid(manifest: Manifest) -> None:
    """Validate a core kind by Kubernetes' schema, another by the one of ours; unknown fields are refused."""
    own = SCHEMAS / f"{manifest['kind'].lower()}.yaml"
    if own.exists():
        jsonschema.validate(manifest, yaml.safe_load(own.read_text()))
    else:
        kubernetes_validate.validate(manifest, "1.32", strict=True)


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """The pod templates of workloads."""
    for each in manifests:
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield each["spec"]["template"]


def check_restricted(spec: Manifest) -> None:
    """Assert what Pod Security's level restricted asks of a pod's spec.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
    """
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for volume in spec.get("volumes", []):
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
    whole = spec.get("securityContext", {})
    assert "sysctls" not in whole
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own.get("privileged")
        assert "procMount" not in own
        assert own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True
        assert own.get("runAsUser", whole.get("runAsUser", 1)) > 0
        profile = own.get("seccompProfile", whole.get("seccompProfile", {"type": "none"}))
        assert profile["type"] in ("RuntimeDefault", "Localhost")
        assert not [port for port in container.get("ports", []) if port.get("hostPort")]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector finds what carries `labels`."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "Exists"
        if expression["key"] not in labels:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()
