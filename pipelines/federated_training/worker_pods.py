"""How the settings of the step `workers` (fededge.task.steps) are said to Kubernetes, for pods that a step starts.

`run_rounds` and `evaluate_model` are told the template of these pods when the pipeline is compiled, since only then the
cluster's file and the image are known.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from fededge.task.steps import CaBundle, StepSettings, Volume
from pipelines.federated_training.placement import CA_FOLDER, variables

WORKER_POD = "FEDEDGE_WORKER_POD"
POD = {
    "FEDEDGE_POD_NAME": "metadata.name",
    "FEDEDGE_POD_UID": "metadata.uid",
    "FEDEDGE_POD_ACCOUNT": "spec.serviceAccountName",
}
"""What a step is told of its own pod, which owns the pods of its workers."""
Manifest = dict[str, Any]


def tell(task: dsl.PipelineTask, template: Manifest) -> None:
    """Let `task` know the template of its workers' pods, and its own pod."""
    # Neither Argo nor Kubernetes may find something of theirs to fill in.
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    task.set_env_variable(WORKER_POD, text.replace("{{", "\\u007b\\u007b").replace("$", "\\u0024"))
    for variable, field in POD.items():
        kubernetes.use_field_path_as_env(task, variable, field)


@dataclass(frozen=True)
class Workers:
    """The pods that some steps start: how many steps, how many pods each, and their template."""

    steps: int
    replicas: int
    template: dict[str, Any]


def in_pipeline(spec: Mapping[str, Any]) -> Workers | None:
    """The workers of a pipeline's steps; None where no step starts any."""
    found = []
    for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
        for each in executor.get("container", {}).get("env", ()):
            if each["name"] == WORKER_POD:
                found.append(json.loads(each["value"]))
    if not found:
        return None
    task = json.loads(spec["root"]["inputDefinitions"]["parameters"]["task"]["defaultValue"])
    return Workers(len(found), task["learning"]["workers"]["replicas"], found[0])


def template_of(
    settings: StepSettings,
    image: str,
    labels: Mapping[str, str],
    plain: Mapping[str, str],
    secrets: Mapping[str, tuple[tuple[str, ...], bool]],
    public: tuple[str, str] | None,
) -> Manifest:
    """The template of the workers' pods, which passes Pod Security's level restricted.

    Args:
        settings: of the step `workers`.
        image: of the container.
        labels: that policies find the pods by.
        plain: environment variables, where the settings do not say otherwise.
        secrets: by name, the keys that are read from each, and whether it may be missing.
        public: name of a ConfigMap and the folder that it is mounted at.
    """
    said = {**plain, **variables(settings)}
    environment: list[Manifest] = [{"name": name, "value": value} for name, value in said.items()]
    for name, (keys, optional) in secrets.items():
        environment += [_from("secretKeyRef", name, key, optional) for key in keys if key not in said]
    for source in settings.environment_from:
        kind = "secretKeyRef" if source.secret else "configMapKeyRef"
        where = str(source.secret or source.config_map)
        environment += [_from(kind, where, key, source.optional) for key in source.keys]
    volumes = [_volume(volume, f"fededge-{number}") for number, volume in enumerate(settings.volumes)]
    mounts = [_mount(volume, f"fededge-{number}") for number, volume in enumerate(settings.volumes)]
    if settings.ca_bundle:
        volumes.append({"name": "fededge-ca", **_bundle(settings.ca_bundle)})
        mounts.append({"name": "fededge-ca", "mountPath": CA_FOLDER, "readOnly": True})
    if public:
        volumes.append({"name": "fededge-key", "configMap": {"name": public[0]}})
        mounts.append({"name": "fededge-key", "mountPath": public[1], "readOnly": True})
    container = {
        "name": "worker",
        "image": image,
        "env": environment,
        "resources": _resources(settings),
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "imagePullPolicy": settings.pull_policy,
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": settings.run_as_user,
            "runAsGroup": settings.run_as_group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
        "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
        "activeDeadlineSeconds": settings.timeout_seconds,
        "nodeSelector": dict(settings.node_selector),
        "affinity": _affinity(settings),
        "tolerations": [
            {
                "key": each.key,
                "operator": each.operator,
                "value": each.value,
                "effect": each.effect,
                "tolerationSeconds": each.seconds,
            }
            for each in settings.tolerations
        ],
    }
    # As Kubeflow keeps sidecars out of steps: a pod whose sidecar goes on never ends.
    own = {"sidecar.istio.io/inject": "false", **settings.labels, **labels}
    metadata = {"labels": own, "annotations": dict(settings.annotations)}
    return _said({"metadata": metadata, "spec": pod})


def _said(value: Any) -> Any:
    """`value` without what is None or empty in its objects."""
    if isinstance(value, dict):
        cleaned = {key: _said(each) for key, each in value.items()}
        return {key: each for key, each in cleaned.items() if each is not None and each not in ({}, [])}
    return [_said(each) for each in value] if isinstance(value, list) else value


def _from(kind: str, name: str, key: str, optional: bool) -> Manifest:
    return {"name": key, "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}


def _resources(settings: StepSettings) -> Manifest:
    limits: dict[str, Any] = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    if settings.gpus is not None:
        limits[settings.gpu_type] = str(settings.gpus)
    requests = {"cpu": settings.cpu_request, "memory": settings.memory_request}
    return {"limits": limits, "requests": requests}


def _affinity(settings: StepSettings) -> Manifest:
    required: list[Manifest] = []
    preferred: list[Manifest] = []
    for each in settings.node_affinity:
        term = {"matchExpressions": [expression.model_dump() for expression in each.expressions]}
        if each.weight is None:
            required.append(term)  # as Kubeflow Pipelines says it: a node meets one of several
        else:
            preferred.append({"weight": each.weight, "preference": term})
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": required},
            "preferredDuringSchedulingIgnoredDuringExecution": preferred,
        }
    }


def _bundle(bundle: CaBundle) -> Manifest:
    if bundle.secret is not None:
        return {"secret": {"secretName": bundle.secret}}
    return {"configMap": {"name": bundle.config_map}}


def _mount(volume: Volume, name: str) -> Manifest:
    return {"name": name, "mountPath": volume.path, "subPath": volume.sub_path}


def _volume(volume: Volume, name: str) -> Manifest:
    if volume.claim is not None:
        return {"name": name, "persistentVolumeClaim": {"claimName": volume.claim}}
    if volume.secret is not None:
        return {"name": name, "secret": {"secretName": volume.secret}}
    if volume.config_map is not None:
        return {"name": name, "configMap": {"name": volume.config_map}}
    if volume.empty_dir is not None:
        return {"name": name, "emptyDir": {"sizeLimit": volume.empty_dir}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": volume.ephemeral}},
        "storageClassName": volume.storage_class,
    }
    return {"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
