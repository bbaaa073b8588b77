"""The pods of workers as a compiled pipeline tells them, and the jobs made of them, by the operator's own CRDs."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from components import images
from fededge.errors import TaskError
from fededge.learning.runtimes.replica import ReplicaProgram
from fededge.learning.runtimes.training_job import (
    INDEX,
    PYTORCHJOB,
    TFJOB,
    Kind,
    Owner,
    job_name,
    kind_for,
    manifest,
)
from fededge.task import FederatedTask
from pipelines import explaining
from pipelines.doctor.needs import WorkerNeeds, needs_of
from pipelines.federated_training import worker_pods
from pipelines.federated_training.pipeline import compile_to
from pipelines.federated_training.steps import CONFIGURATION, CONFIGURATION_KEYS, CREDENTIALS
from tests.built_manifests import MANIFESTS, build, check_restricted, selects
from tests.crds import closed_schemas

Manifest = dict[str, Any]
schemas = functools.cache(closed_schemas)
STARTING = {"run-rounds", "evaluate-model"}
SHARDS = "sha256:" + "0" * 64
OWNER = Owner("rounds-1-impl-2", "0b1c", "pipeline-runner")
EVERYTHING: Manifest = {
    "cpu_request": "2",
    "memory_limit": "16Gi",
    "gpus": 1,
    "node_selector": {"pool": "learning"},
    "node_affinity": [
        {"expressions": [{"key": "zone", "values": ["a", "b"]}]},
        {"expressions": [{"key": "spot", "operator": "DoesNotExist"}], "weight": 10},
    ],
    "tolerations": [
        {"key": "dedicated", "value": "learning", "effect": "NoSchedule"},
        {"operator": "Exists", "effect": "NoExecute", "seconds": 60},
    ],
    "pull_secrets": ["harbor"],
    "pull_policy": "Always",
    "timeout_seconds": 7200,
    "run_as_user": 1000,
    "run_as_group": 0,
    "labels": {"team": "edge", "sidecar.istio.io/inject": "true"},
    "annotations": {"note": "north"},
    "environment": {"LEVEL": "{{workflow.name}} $(HOME) $$"},
    "environment_from": [{"secret": "lake", "keys": ["LAKE"]}, {"config_map": "region", "keys": ["REGION"]}],
    "volumes": [
        {"path": "/data", "claim": "datasets", "sub_path": "digits"},
        {"path": "/etc/own", "config_map": "own"},
        {"path": "/etc/key", "secret": "key"},
        {"path": "/tmp", "empty_dir": "20Gi"},
        {"path": "/scratch", "ephemeral": "50Gi", "storage_class": "fast"},
    ],
    "ca_bundle": {"config_map": "company-ca"},
    "proxy": {"https": "http://proxy.example:3128"},
}


def task(**changes: Any) -> FederatedTask:
    content = {
        "name": "digits",
        "data": {"source": "digits"},
        "learning": {"rounds": 2, "workers": {"replicas": 8}},
        "operation": {"rounds_per_step": 1},
    }
    return FederatedTask.from_json(json.dumps({**content, **changes}))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`compiled(settings)` is the file of a pipeline; each is compiled once."""
    folder = tmp_path_factory.mktemp("compiled")

    def compile_task(settings: Manifest | None = None, *, on_cluster: bool = True, **changes: Any) -> Path:
        steps = {"steps": {"workers": settings}} if settings else {}
        spec = task(operation={"rounds_per_step": 1, **steps}, **changes)
        file = folder / f"{spec.digest.removeprefix('sha256:')}-{on_cluster}.yaml"
        if not file.exists():
            compile_to(spec, file, on_cluster=on_cluster)
        return file

    return compile_task


def documents(file: Path) -> tuple[Manifest, Manifest]:
    """The pipeline, and what Kubernetes adds to its steps by name of the executor."""
    pipeline, platform = yaml.load_all(file.read_text(), yaml.CSafeLoader)
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def told(file: Path) -> dict[str, str]:
    """The template as text that steps are told, by step."""
    found = {}
    for name, executor in documents(file)[0]["deploymentSpec"]["executors"].items():
        for each in executor["container"].get("env", []):
            if each["name"] == worker_pods.WORKER_POD:
                found[name.removeprefix("exec-")] = each["value"]
    return found


def template(file: Path) -> Manifest:
    return dict(json.loads(next(iter(told(file).values()))))


def job(kind: Kind, pod: Manifest) -> Manifest:
    program = ReplicaProgram("s3://fededge/workers/1-rounds-0001", 8, "/tmp/fededge-clients", 4200.0)
    return manifest(kind, job_name("0b1c", "rounds-0001"), pod, OWNER, program, SHARDS)


@pytest.mark.parametrize("settings", [None, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("kind", [TFJOB, PYTORCHJOB], ids=lambda kind: kind.kind)
def test_the_job_is_one_that_the_training_operator_takes(
    kind: Kind, settings: Manifest | None, compiled: Callable[..., Any], shared: Path
) -> None:
    file = shared / "crds" / "training-v1" / f"kubeflow.org_{kind.plural}.yaml"
    if not file.exists():
        pytest.skip(f"no CRD at {file}")
    made = job(kind, template(compiled(settings)))
    schema = schemas(file)["kubeflow.org/v1", kind.kind]
    jsonschema.validate(made, schema)
    broken = {**made, "spec": {**made["spec"], "replicas": 8}}
    with pytest.raises(jsonschema.ValidationError, match="replicas"):
        jsonschema.validate(broken, schema)


@pytest.mark.parametrize("settings", [None, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("kind", [TFJOB, PYTORCHJOB], ids=lambda kind: kind.kind)
def test_its_pods_are_ones_that_kubernetes_takes_at_level_restricted(
    kind: Kind, settings: Manifest | None, compiled: Callable[..., Any]
) -> None:
    worker = job(kind, template(compiled(settings)))["spec"][kind.replicas]["Worker"]
    pod = worker["template"]
    kubernetes_validate.validate(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "w", **pod["metadata"]},
            "spec": pod["spec"],
        },
        "1.32",
        strict=True,
    )
    check_restricted(pod["spec"])
    (container,) = pod["spec"]["containers"]
    assert container["name"] == kind.container, "the operator's webhook asks for this name"
    assert container["image"] == images.WORKER
    assert container["command"][-2:] == ["--idle", "4200"]
    assert container["command"][container["command"].index("--index") + 1] == f"$({INDEX})"
    assert (worker["replicas"], worker["restartPolicy"]) == (8, "OnFailure")
    assert pod["spec"]["serviceAccountName"] == "pipeline-runner"
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_torch_model_is_trained_by_a_pytorchjob_and_others_by_a_tfjob() -> None:
    assert [kind_for(each).kind for each in ("torch", "keras", "sklearn")] == ["PyTorchJob", "TFJob", "TFJob"]


def test_the_names_of_replicas_are_names_of_services() -> None:
    name = job_name("0b1c2d3e-0000-4000-8000-000000000000", "evaluate-1000000")
    longest = f"{name}-worker-999"
    assert len(longest) <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", longest)
    assert name == job_name("0b1c2d3e-0000-4000-8000-000000000000", "evaluate-1000000")
    assert name != job_name("another", "evaluate-1000000")


def test_steps_that_start_workers_know_their_own_pod_which_owns_the_job(
    compiled: Callable[..., Any],
) -> None:
    pipeline = compiled()
    _, added = documents(pipeline)
    assert {name.rstrip("-0123456789") for name in told(pipeline)} == STARTING
    for name in told(pipeline):
        fields = {each["name"]: each["fieldPath"] for each in added[f"exec-{name}"]["fieldPathAsEnv"]}
        assert fields == worker_pods.POD
    assert job(TFJOB, template(pipeline))["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "rounds-1-impl-2", "uid": "0b1c"}
    ]


def test_workers_read_the_store_as_steps_do_and_no_key_of_checkpoints_or_releases(
    compiled: Callable[..., Any],
) -> None:
    pod = template(compiled())
    (container,) = pod["spec"]["containers"]
    found: dict[str, set[tuple[str, bool]]] = {}
    for each in container["env"]:
        if reference := each.get("valueFrom", {}).get("secretKeyRef"):
            found.setdefault(reference["name"], set()).add((reference["key"], reference["optional"]))
    assert found == {
        CONFIGURATION: {(key, False) for key in CONFIGURATION_KEYS},
        **{name: {(key, True) for key in keys} for name, keys in CREDENTIALS.items()},
    }
    assert "volumes" not in pod["spec"]
    assert {"AWS_RETRY_MODE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"} <= {
        each["name"] for each in container["env"]
    }


def test_what_the_settings_say_reaches_the_pods_word_for_word(compiled: Callable[..., Any]) -> None:
    pipeline = compiled(EVERYTHING)
    for text in told(pipeline).values():
        assert "{{" not in text, "Argo would fill it in"
        assert "$" not in text, "Kubernetes would fill it in"
    pod = template(pipeline)
    (container,) = pod["spec"]["containers"]
    plain = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert plain["LEVEL"] == "{{workflow.name}} $(HOME) $$"
    assert plain["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "1Gi"}
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert pod["metadata"]["labels"]["team"] == "edge"
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] == "zone"


def test_a_model_of_the_users_own_code_is_proven_by_the_public_key(compiled: Callable[..., Any]) -> None:
    code = "sha256:" + "1" * 64
    model = {"framework": "torch", "factory": "net:make", "code": code}
    pod = template(compiled(model=model))
    (container,) = pod["spec"]["containers"]
    plain = {each["name"]: each.get("value") for each in container["env"]}
    (mounted,) = container["volumeMounts"]
    assert str(plain["FEDEDGE_SIGNING_KEY_FILE"]).startswith(mounted["mountPath"])
    assert pod["spec"]["volumes"] == [{"name": mounted["name"], "configMap": {"name": "fededge-release-key"}}]


def test_nobody_may_connect_to_a_worker(compiled: Callable[..., Any]) -> None:
    (policy,) = build(MANIFESTS / "base" / "steps")
    labels = template(compiled(EVERYTHING))["metadata"]["labels"]
    assert selects(policy["spec"]["podSelector"], labels)
    assert labels["fededge.io/step"] == "workers"


def test_without_workers_and_on_this_machine_no_step_is_told_of_pods(compiled: Callable[..., Any]) -> None:
    assert told(compiled(learning={"rounds": 2})) == {}
    assert told(compiled(on_cluster=False)) == {}


def test_settings_of_workers_that_do_not_fit_together_are_told(compiled: Callable[..., Any]) -> None:
    twice = {"volumes": [{"path": "/a", "secret": "s"}, {"path": "/b", "secret": "s"}]}
    with pytest.raises(TaskError, match="mounted twice"):
        compiled(twice)


def test_the_pods_of_workers_are_counted_beside_the_others(compiled: Callable[..., Any]) -> None:
    spread, plain = compiled(), compiled(learning={"rounds": 2})
    told_of = dict(explaining.explain(spread))
    assert told_of["workers"] == "8 more pods at a time in each of 4 steps"
    assert needs_of(spread).workers == WorkerNeeds(replicas=8, cpu=1.0, memory=2.0**30)
    assert "workers" not in dict(explaining.explain(plain))
    assert needs_of(plain).workers is None
