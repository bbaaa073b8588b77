"""The manifests of this checkout for one cluster: an overlay as kustomize builds it, with a few names changed."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fededge.errors import SetupError, shown
from fededge.host.layout import ROOT

OVERLAYS = ROOT / "manifests" / "overlays"
MLFLOW = "mlflow"
"""Namespace of the MLflow server in all overlays."""
ENDPOINTS = "fededge-endpoints"
"""Name of the rights to deploy endpoints, in the namespace that holds them."""
OURS = re.compile(r"ghcr\.io/fededge/([a-z]+):(.+)")
WORD = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,250}")
SETTINGS = {
    "namespace": WORD,
    "endpoints-namespace": WORD,
    "mlflow-namespace": WORD,
    "account": WORD,
    "registry": REFERENCE,
    "tag": REFERENCE,
}
"""What can be set, and what its value must match."""

NAMED = {"namespace", "endpoints-namespace", "mlflow-namespace", "account"}


def overlays() -> list[str]:
    """Names of the overlays; none where FedEdge was installed without its checkout."""
    return sorted(file.parent.name for file in OVERLAYS.glob("*/kustomization.yaml"))


def build(overlay: str, changes: Sequence[str]) -> str:
    """The manifests of `overlay` as one YAML stream.

    Args:
        overlay: one of `overlays()`.
        changes: `key=value` each, with a key of SETTINGS.

    Raises:
        SetupError: there is no such overlay or setting, it is none of this overlay, or kubectl is missing or refused.
    """
    if overlay not in overlays():
        raise SetupError(
            f"there is no overlay {shown(overlay)} in {OVERLAYS}: name one of {', '.join(overlays()) or 'a checkout'}"
        )
    wanted = _parsed(changes)
    if shutil.which("kubectl") is None:
        raise SetupError(
            "kubectl is not installed, by which manifests are built: install it, and run this again"
        )
    done = subprocess.run(
        ["kubectl", "kustomize", str(OVERLAYS / overlay)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(
            f"kubectl could not build {overlay}: {shown(done.stderr.strip(), 1000)}. Correct it there"
        )
    manifests = list(yaml.safe_load_all(done.stdout))
    if any("istio.io/" in each["apiVersion"] for each in manifests) and (
        fixed := sorted(wanted.keys() & NAMED)
    ):
        raise SetupError(
            f"--set {fixed[0]}: the rules of a mesh name namespaces and accounts in many places: copy "
            f"{OVERLAYS / overlay}, and change them there"
        )
    manifests = [_changed(each, wanted) for each in manifests]
    return yaml.safe_dump_all(manifests, sort_keys=False)


def _parsed(changes: Sequence[str]) -> dict[str, str]:
    wanted = {}
    for change in changes:
        key, given, value = change.partition("=")
        if not given or key not in SETTINGS:
            raise SetupError(
                f"--set {shown(change)}: give KEY=VALUE with one of the keys {', '.join(SETTINGS)}"
            )
        if not SETTINGS[key].fullmatch(value):
            raise SetupError(
                f"--set {shown(change)}: {shown(value)!r} cannot be a {key}: use letters, digits and -"
            )
        wanted[key] = value
    return wanted


def _changed(manifest: dict[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    """`manifest` with the names that are `wanted`."""
    metadata = manifest["metadata"]
    of_mlflow = MLFLOW in (metadata.get("namespace"), metadata["name"])
    namespace = wanted.get("mlflow-namespace" if of_mlflow else "namespace")
    if metadata["name"] == ENDPOINTS:
        namespace = wanted.get("endpoints-namespace", namespace)
    if namespace:
        metadata["name" if manifest["kind"] == "Namespace" else "namespace"] = namespace
    for subject in manifest.get("subjects", ()):
        subject["namespace"] = wanted.get("namespace", subject["namespace"])
        subject["name"] = wanted.get("account", subject["name"])
    pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
    for container in [*pod.get("containers", ()), *pod.get("initContainers", ())]:
        if ours := OURS.fullmatch(container["image"]):
            registry, tag = wanted.get("registry", "ghcr.io/fededge"), wanted.get("tag", ours[2])
            container["image"] = f"{registry}/{ours[1]}:{tag}"
    return manifest
