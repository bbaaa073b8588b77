"""The SeldonDeployment, held against the CRD of Seldon Core and against what the CRD leaves out."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from fededge import storage
from fededge.delivery.endpoints.seldon import addresses, build_seldon_deployment, chosen_variant
from fededge.delivery.endpoints.seldon import check as check_manifest
from fededge.documents import ModelVersion
from fededge.errors import EndpointError
from fededge.task import Autoscale, Endpoint, Prometheus, Resources
from tests.crds import closed_schemas
from tests.model_versions import model_version, published

IMAGE = "ghcr.io/fededge/serving:1"
FIELDS = Path(__file__).resolve().parents[3] / "fixtures" / "seldon_deployment.yaml"


def digest(number: int, kind: str) -> str:
    return storage.digest(f"{number} {kind}".encode())


def version(number: int = 3) -> ModelVersion:
    variants = [
        published(f"s3://models/{kind}.tflite", kind, digest=digest(number, kind), bytes=1)
        for kind in ("float32", "int8")
    ]
    return model_version(variants, name="digits", version=number)


def build(
    number: int = 3, current: dict[str, Any] | None = None, replicas: int = 1, **endpoint: Any
) -> dict[str, Any]:
    """The manifest for version `number`."""
    wanted = Endpoint(name="digits", **endpoint)
    return build_seldon_deployment(wanted, replicas, version(number), IMAGE, current)


@pytest.fixture(scope="session")
def crd(shared: Path) -> dict[str, Any]:
    """The CRD's schema for v1, closed: fields that it does not name are refused."""
    file = shared / "crds" / "seldon-v1" / "seldondeployments.yaml"
    if not file.exists():
        pytest.skip(f"no Seldon CRD at {file}")
    return closed_schemas(file)["machinelearning.seldon.io/v1", "SeldonDeployment"]


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "canary": {"canary_percent": 10},
    "executor": {"executor": True},
    "scaled by CPU": {"autoscale": Autoscale(max_replicas=5)},
    "scaled by KEDA": {
        "autoscale": Autoscale(
            max_replicas=5, prometheus=Prometheus(server="http://prometheus:9090", query="up", threshold=2.5)
        )
    },
    "spread": {"spread": "zone", "min_available": 1, "replicas": 2},
    "small": {"resources": Resources(cpu="100m", memory="128Mi", cpu_limit=None), "deadline_seconds": 60},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_has_the_fields_that_seldon_and_kubernetes_know(form: str) -> None:
    manifest = build(current=build(2), **FORMS[form])
    jsonschema.validate(manifest, yaml.safe_load(FIELDS.read_text()))
    for predictor in manifest["spec"]["predictors"]:
        for component in predictor["componentSpecs"]:
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p", "labels": predictor["labels"]},
                "spec": component["spec"],
            }
            kubernetes_validate.validate(pod, "1.32", strict=True)


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_is_valid_by_the_crd(crd: dict[str, Any], form: str) -> None:
    manifest = build(current=build(2), **FORMS[form])
    jsonschema.validate(manifest, crd)


def test_the_closed_schema_refuses_an_unknown_field(crd: dict[str, Any]) -> None:
    manifest = build()
    manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="readynessProbe"):
        jsonschema.validate(manifest, crd)


def container(manifest: dict[str, Any], predictor: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["predictors"][predictor]
    return found["componentSpecs"][0]["spec"]["containers"][0]


def parameters(predictor: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in predictor["graph"]["parameters"]}


def test_the_server_gets_url_digest_variant_and_version() -> None:
    manifest = build(variant="int8", replicas=2)
    (predictor,) = manifest["spec"]["predictors"]
    assert predictor["replicas"] == 2
    assert parameters(predictor) == {
        "model_url": "s3://models/int8.tflite",
        "model_digest": digest(3, "int8"),
        "variant": "int8",
        "model_version": "3",
    }


def test_the_container_has_probes_limits_and_no_privileges() -> None:
    manifest = build()
    found = container(manifest)
    pod = manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
    assert found["image"] == IMAGE
    assert found["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert found["livenessProbe"]["httpGet"]["path"] == "/live"
    assert set(found["resources"]) == {"requests", "limits"}
    assert pod["securityContext"]["runAsNonRoot"]
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def component(**endpoint: Any) -> dict[str, Any]:
    found: dict[str, Any] = build(**endpoint)["spec"]["predictors"][0]
    return found["componentSpecs"][0]


def test_without_the_executor_clients_reach_the_server_itself() -> None:
    direct, behind = build(), build(executor=True)
    assert direct["spec"]["predictors"][0]["annotations"] == {"seldon.io/no-engine": "true"}
    host = "digits-main.default.svc.cluster.local"
    assert addresses(direct) == (f"http://{host}:9000", f"{host}:9500")
    assert "annotations" not in behind["spec"]["predictors"][0]
    assert addresses(behind) == (f"http://{host}:8000", f"{host}:5001")


def test_a_pod_that_ends_is_forgotten_first_and_has_time_to_finish() -> None:
    pod = component()["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "10"]
    assert pod["terminationGracePeriodSeconds"] >= 10 + 10 + 10


def test_an_endpoint_is_scaled_between_its_replicas_and_the_most() -> None:
    found = component(replicas=2, **FORMS["scaled by CPU"])["hpaSpec"]
    assert (found["minReplicas"], found["maxReplicas"]) == (2, 5)
    (trigger,) = component(**FORMS["scaled by KEDA"])["kedaSpec"]["triggers"]
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": "up",
        "threshold": "2.5",
    }
    assert "replicas" not in build(**FORMS["scaled by CPU"])["spec"]["predictors"][0]


def test_a_canary_is_one_server_that_is_neither_scaled_nor_kept() -> None:
    manifest = build(
        current=build(2),
        replicas=3,
        canary_percent=10,
        min_available=2,
        autoscale=Autoscale(max_replicas=5),
    )
    canary = manifest["spec"]["predictors"][1]
    assert canary["replicas"] == 1
    assert set(canary["componentSpecs"][0]) == {"spec"}


def test_a_change_of_anything_is_told_by_a_label() -> None:
    """Seldon copies it to the Deployment, so that waiting knows which manifest its pods are of."""
    labels = [
        build(**form)["spec"]["predictors"][0]["labels"]["fededge.io/predictor"] for form in FORMS.values()
    ]
    assert len({*labels}) == len(labels) - 1  # the canary has nothing to stand beside
    assert labels[0] == build()["spec"]["predictors"][0]["labels"]["fededge.io/predictor"]


def test_a_canary_stands_beside_the_version_that_serves() -> None:
    manifest = build(current=build(2), canary_percent=10)
    main, canary = manifest["spec"]["predictors"]
    assert [main["traffic"], canary["traffic"]] == [90, 10]
    assert parameters(main)["model_version"] == "2"
    assert parameters(canary)["model_version"] == "3"


@pytest.mark.parametrize("current", [None, build()])
def test_without_another_version_there_is_no_canary(current: dict[str, Any] | None) -> None:
    manifest = build(current=current, canary_percent=10)
    assert [each["traffic"] for each in manifest["spec"]["predictors"]] == [100]


def test_a_variant_that_was_not_published_cannot_be_served() -> None:
    with pytest.raises(
        EndpointError, match=r"no variant float16 that passed its gate \(it has float32, int8\)"
    ):
        chosen_variant(Endpoint(name="digits", variant="float16"), version())


def broken(path: str, value: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(build(current=build(2), canary_percent=10))
    node: Any = manifest
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        node = node[key]
    node[last] = value
    return manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.protocol", "grpc", "spec.protocol is 'grpc'"),
        ("spec.predictors.0.graph.type", "model", "graph.type is 'model'"),
        ("spec.predictors.0.graph.endpoint", {"type": "HTTP"}, "graph.endpoint.type is 'HTTP'"),
        ("spec.predictors.1.graph.parameters.0.type", "string", "model_url is 'string'"),
        ("spec.predictors.1.traffic", 20, r"traffic of digits is \[90, 20\], which must total 100"),
        ("spec.predictors.1.traffic", -90, "must total 100"),
        ("spec.predictors.1.name", "main", "give each its own name"),
        ("spec.predictors.1.name", "m" * 60, "too long"),
        ("spec.predictors.1.graph.name", "other", "no container of that name"),
        ("spec.predictors.1.graph.children", [{"name": "x"}], "graph node x has no container"),
        ("spec.predictors", [], "give each its own name"),
    ],
)
def test_what_the_crd_lets_pass_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(EndpointError, match=message):
        check_manifest(broken(path, value))


def test_two_shadows_are_refused() -> None:
    manifest = broken("spec.predictors.0.shadow", True)
    manifest["spec"]["predictors"][1]["shadow"] = True
    with pytest.raises(EndpointError, match="several shadow"):
        check_manifest(manifest)


def test_one_shadow_takes_no_part_in_the_total() -> None:
    manifest = broken("spec.predictors.1.shadow", True)
    manifest["spec"]["predictors"][0]["traffic"] = 100
    check_manifest(manifest)
