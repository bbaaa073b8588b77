"""What steps get on a cluster, as the compiled pipeline says it; pod parts also by Kubernetes' own schema."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2

from fededge.delivery.endpoints.pod import STORAGE_SECRET
from fededge.errors import TaskError
from fededge.task import FederatedTask
from pipelines.federated_training.pipeline import compile_to
from pipelines.federated_training.steps import CONFIGURATION, CONFIGURATION_KEYS, CREDENTIALS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "kubeflow.md"
Executor = tuple[dict[str, Any], dict[str, Any]]
"""A step's container, and what the Kubernetes platform adds to it."""
Compile = Callable[..., dict[str, Executor]]


def task(steps: dict[str, Any] | None = None) -> FederatedTask:
    return FederatedTask.from_json(
        json.dumps(
            {
                "name": "digits",
                "data": {"source": "digits"},
                "learning": {"rounds": 2},
                "devices": [{"name": "gateway"}],
                "operation": {"steps": steps or {}},
            }
        )
    )


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Compile a task with settings of steps, and a cluster's file; the executors by the step's name."""

    def compile_task(
        steps: dict[str, Any] | None = None, cluster: str | None = None, on_cluster: bool = True
    ) -> dict[str, Executor]:
        if cluster is not None:
            (tmp_path / "cluster.yaml").write_text(cluster)
            monkeypatch.setenv("FEDEDGE_CLUSTER_FILE", str(tmp_path / "cluster.yaml"))
        compile_to(task(steps), tmp_path / "pipeline.yaml", on_cluster=on_cluster)
        spec, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
        added = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for each in added.values():
            json_format.ParseDict(each, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        return {
            name.removeprefix("exec-"): (executor["container"], added[name])
            for name, executor in spec["deploymentSpec"]["executors"].items()
        }

    return compile_task


def environment(executor: Executor) -> dict[str, str]:
    return {each["name"]: each["value"] for each in executor[0].get("env", [])}


def limits(executor: Executor) -> dict[str, str]:
    return {
        name.removeprefix("resource").removesuffix("Limit"): value
        for name, value in executor[0]["resources"].items()
        if name.startswith("resource") and name.endswith("Limit")
    }


def secret_keys(executor: Executor, secret: str) -> set[str]:
    (found,) = [each for each in executor[1]["secretAsEnv"] if each["secretName"] == secret]
    return {entry["envVar"] for entry in found["keyToEnv"]}


def check_pod(spec: dict[str, Any]) -> None:
    """Validate `spec`, the parts of a pod that a step's settings are, by the schema of Kubernetes."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "step"}}
    container = {"name": "main", "image": "step", **spec.pop("container", {})}
    kubernetes_validate.validate({**pod, "spec": {"containers": [container], **spec}}, "1.32", strict=True)


def test_without_settings_each_step_has_what_its_image_needs(compiled: Compile) -> None:
    found = compiled()
    assert limits(found["run-rounds"]) == {"Cpu": "4", "Memory": "8Gi"}
    assert limits(found["select-cohort"]) == {"Cpu": "1", "Memory": "2Gi"}


def test_a_task_counts_before_the_cluster_and_a_step_before_the_default(compiled: Compile) -> None:
    found = compiled(
        {"default": {"memory_limit": "3Gi"}, "run-rounds": {"memory_limit": None}},
        "steps:\n  default: {cpu_limit: 2}\n  run-rounds: {cpu_limit: 1500m, memory_limit: 20Gi}\n",
    )
    assert limits(found["run-rounds"]) == {"Cpu": "1500m"}
    assert limits(found["gate-model"]) == {"Cpu": "2", "Memory": "3Gi"}


def test_variables_of_several_layers_add_up_name_by_name(compiled: Compile) -> None:
    found = compiled(
        {"run-rounds": {"environment": {"B": "of the step"}}},
        "steps: {default: {environment: {A: of the cluster, B: of the cluster}}}",
    )
    variables = environment(found["run-rounds"])
    assert (variables["A"], variables["B"]) == ("of the cluster", "of the step")
    assert environment(found["gate-model"])["B"] == "of the cluster"


def test_a_gpu_is_asked_for_by_the_name_that_the_cluster_has_for_it(compiled: Compile) -> None:
    found = compiled({"run-rounds": {"gpus": 2}, "evaluate-model": {"gpus": 1, "gpu_type": "amd.com/gpu"}})
    for step, kind, count in (("run-rounds", "nvidia.com/gpu", "2"), ("evaluate-model", "amd.com/gpu", "1")):
        accelerator = found[step][0]["resources"]["accelerator"]
        assert (accelerator["resourceType"], accelerator["resourceCount"]) == (kind, count)
    assert "accelerator" not in found["prepare-data"][0]["resources"]


def test_nodes_are_chosen_by_selector_affinity_and_tolerations(compiled: Compile) -> None:
    settings = {
        "node_selector": {"kubernetes.io/arch": "amd64"},
        "node_affinity": [
            {"expressions": [{"key": "zone", "values": ["a", "b"]}]},
            {"expressions": [{"key": "spot", "operator": "DoesNotExist"}], "weight": 10},
        ],
        "tolerations": [
            {"key": "dedicated", "value": "learning", "effect": "NoSchedule"},
            {"operator": "Exists", "effect": "NoExecute", "seconds": 60},
        ],
    }
    found = compiled({"run-rounds": settings})
    added = found["run-rounds"][1]
    assert added["nodeSelector"]["labels"] == {"kubernetes.io/arch": "amd64"}
    required, preferred = added["nodeAffinity"]
    assert preferred["weight"] == 10
    tolerations = [{**each, **_seconds(each)} for each in added["tolerations"]]
    check_pod(
        {
            "nodeSelector": added["nodeSelector"]["labels"],
            "tolerations": tolerations,
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [required]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": preferred.pop("weight"), "preference": preferred}
                    ],
                }
            },
        }
    )
    assert tolerations[1]["tolerationSeconds"] == 60
    assert "nodeSelector" not in found["prepare-data"][1]


def _seconds(toleration: dict[str, Any]) -> dict[str, int]:
    """The protocol buffer's JSON writes 64-bit numbers as text; Kubernetes takes a number."""
    return (
        {"tolerationSeconds": int(toleration["tolerationSeconds"])}
        if "tolerationSeconds" in toleration
        else {}
    )


def test_images_are_pulled_by_policy_and_secrets_within_a_time(compiled: Compile) -> None:
    added = compiled(
        {"default": {"pull_secrets": ["harbor", "mirror"], "pull_policy": "Always", "timeout_seconds": 7200}}
    )["gate-model"][1]
    assert [each["secretName"] for each in added["imagePullSecret"]] == ["harbor", "mirror"]
    assert (added["imagePullPolicy"], int(added["activeDeadlineSeconds"])) == ("Always", 7200)
    check_pod(
        {
            "imagePullSecrets": [{"name": "harbor"}],
            "activeDeadlineSeconds": 7200,
            "container": {"imagePullPolicy": added["imagePullPolicy"]},
        }
    )


def test_a_step_runs_as_the_user_that_is_asked_for(compiled: Compile) -> None:
    found = compiled({"run-rounds": {"run_as_user": 1000, "run_as_non_root": True}})
    context = found["run-rounds"][1]["securityContext"]
    assert (int(context["runAsUser"]), context["runAsNonRoot"]) == (1000, True)
    assert "securityContext" not in found["gate-model"][1]


def test_volumes_come_from_each_source(compiled: Compile) -> None:
    volumes = [
        {"path": "/data", "claim": "datasets", "sub_path": "digits"},
        {"path": "/etc/own", "config_map": "own"},
        {"path": "/etc/key", "secret": "key"},
        {"path": "/tmp", "empty_dir": "20Gi"},
        {"path": "/scratch", "ephemeral": "50Gi", "storage_class": "fast"},
    ]
    added = compiled({"run-rounds": {"volumes": volumes}})["run-rounds"][1]
    (claim,), (own,), (temporary,) = added["pvcMount"], added["configMapAsVolume"], added["emptyDirMounts"]
    assert (claim["constant"], claim["mountPath"], claim["subPath"]) == ("datasets", "/data", "digits")
    assert (own["configMapName"], own["mountPath"]) == ("own", "/etc/own")
    assert {each["secretName"] for each in added["secretAsVolume"]} == {"key", "fededge-checkpoint-key"}
    assert (temporary["sizeLimit"], temporary["mountPath"]) == ("20Gi", "/tmp")
    (ephemeral,) = added["genericEphemeralVolume"]
    assert (ephemeral["size"], ephemeral["storageClassName"]) == ("50Gi", "fast")
    names = [temporary["volumeName"], ephemeral["volumeName"]]
    check_pod({"volumes": [{"name": name, "emptyDir": {"sizeLimit": "20Gi"}} for name in names]})


def test_own_certificates_are_mounted_and_named_to_each_library(compiled: Compile) -> None:
    found = compiled({"default": {"ca_bundle": {"config_map": "company-ca", "key": "all.pem"}}})["gate-model"]
    (mounted,) = found[1]["configMapAsVolume"]
    assert (mounted["configMapName"], mounted["mountPath"]) == ("company-ca", "/etc/fededge/ca")
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        assert environment(found)[variable] == "/etc/fededge/ca/all.pem"


def test_a_proxy_is_named_in_both_cases_and_never_for_the_cluster_itself(compiled: Compile) -> None:
    proxy = {"https": "http://proxy.example:3128", "no_proxy": ["10.0.0.0/8"]}
    variables = environment(compiled({"default": {"proxy": proxy}})["prepare-data"])
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == "http://proxy.example:3128"
    assert {".svc", ".kubeflow", "10.0.0.0/8"} <= set(variables["NO_PROXY"].split(","))
    assert variables["NO_PROXY"] == variables["no_proxy"]
    assert "HTTP_PROXY" not in variables


def test_variables_come_from_secrets_and_config_maps_by_their_names(compiled: Compile) -> None:
    sources = [
        {"secret": "data-lake", "keys": ["LAKE_TOKEN"]},
        {"config_map": "region", "keys": ["AWS_REGION"], "optional": True},
    ]
    found = compiled({"prepare-data": {"environment_from": sources}})["prepare-data"]
    assert secret_keys(found, "data-lake") == {"LAKE_TOKEN"}
    (region,) = found[1]["configMapAsEnv"]
    assert (region["configMapName"], region["optional"]) == ("region", True)


def test_every_step_gets_credentials_by_reference_and_needs_none_of_them(compiled: Compile) -> None:
    for name, executor in compiled().items():
        assert secret_keys(executor, "fededge-config") == set(CONFIGURATION_KEYS), name
        for secret, keys in CREDENTIALS.items():
            assert secret_keys(executor, secret) == set(keys), name
        optional = {each["secretName"] for each in executor[1]["secretAsEnv"] if each["optional"]}
        assert optional == set(CREDENTIALS), name


def test_the_guide_lists_the_keys_that_steps_read() -> None:
    section = re.search(r"^## Secrets\n(.*?)(?=^## )", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert section
    rows = re.findall(r"^\| `([a-z-]+)`[^|]*\|([^|]*)\|", section[1], re.MULTILINE)
    listed = {secret: tuple(re.findall(r"`([A-Z_]+)`", keys)) for secret, keys in rows}
    for secret, keys in {CONFIGURATION: CONFIGURATION_KEYS, **CREDENTIALS}.items():
        assert listed[secret] == keys


def test_an_endpoint_reads_the_store_with_the_same_secret_as_steps() -> None:
    assert STORAGE_SECRET in CREDENTIALS


def test_what_the_settings_say_is_not_read_from_a_secret(compiled: Compile) -> None:
    found = compiled({"default": {"environment": {"AWS_DEFAULT_REGION": "eu-central-1"}}})["run-rounds"]
    assert "AWS_DEFAULT_REGION" not in secret_keys(found, "fededge-storage")
    assert environment(found)["AWS_DEFAULT_REGION"] == "eu-central-1"


def test_each_step_carries_labels_by_which_policies_find_it(compiled: Compile) -> None:
    for name, (_, added) in compiled().items():
        labels = added["podMetadata"]["labels"]
        step = name.rstrip("-0123456789")
        assert labels == {
            "app.kubernetes.io/part-of": "fededge",
            "fededge.io/step": step,
            "fededge.io/task": "digits",
        }


def test_a_pod_carries_further_labels_and_annotations_but_keeps_those_that_policies_find_it_by(
    compiled: Compile,
) -> None:
    labels = {"sidecar.istio.io/inject": "false", "fededge.io/step": "none"}
    added = compiled({"run-rounds": {"labels": labels, "annotations": {"team": "edge, north"}}})[
        "run-rounds"
    ][1]
    assert added["podMetadata"]["annotations"] == {"team": "edge, north"}
    found = added["podMetadata"]["labels"]
    assert (found["sidecar.istio.io/inject"], found["fededge.io/step"]) == ("false", "run-rounds")


def test_on_this_machine_a_cluster_has_no_say(compiled: Compile) -> None:
    proxy = {"default": {"proxy": {"https": "http://proxy.example:3128"}}}
    found = compiled(proxy, "steps: {default: {environment: {A: b}}}", on_cluster=False)
    assert not {"HTTPS_PROXY", "A"} & set(environment(found["prepare-data"]))


def test_neither_task_nor_cluster_may_name_a_step_that_there_is_not(compiled: Compile) -> None:
    with pytest.raises(
        TaskError, match=r"^operation\.steps\.run-round: there is no such step: name default or"
    ):
        compiled({"run-round": {"gpus": 1}})
    with pytest.raises(TaskError, match=r"cluster\.yaml: steps\.train: there is no such step"):
        compiled(cluster="steps: {train: {gpus: 1}}")


def test_layers_that_do_not_fit_together_are_told_with_their_step(compiled: Compile) -> None:
    with pytest.raises(
        TaskError, match=r"^operation\.steps\.run-rounds, with the cluster's defaults: .*twice"
    ):
        compiled(
            {"run-rounds": {"volumes": [{"path": "/etc/own", "config_map": "own"}]}},
            "steps: {default: {ca_bundle: {config_map: own}}}",
        )


def test_a_run_goes_on_whatever_its_steps_get() -> None:
    assert task({"default": {"gpus": 1}}).identity == task().identity
