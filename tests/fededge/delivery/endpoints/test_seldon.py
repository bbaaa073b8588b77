"""The SeldonDeployment, held against the CRD of Seldon Core and against what the CRD leaves out."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fededge.delivery.endpoints.seldon import build_seldon_deployment, chosen_variant
from fededge.delivery.endpoints.seldon import check as check_manifest
from fededge.errors import EndpointError
from fededge.task import FederatedTask

IMAGE = "ghcr.io/fededge/serving:1"


def task(**endpoint: Any) -> FederatedTask:
    return FederatedTask.from_json(
        json.dumps(
            {"name": "digits", "data": {"source": "digits"}, "endpoint": {"name": "digits", **endpoint}}
        )
    )


def version(number: int = 3, digest: str = "sha256:3f") -> dict[str, Any]:
    variants = [
        {"kind": kind, "url": f"s3://models/{kind}.tflite", "digest": f"{digest}-{kind}"}
        for kind in ("float32", "int8")
    ]
    return {"name": "digits", "version": number, "variants": variants}


@pytest.fixture(scope="session")
def crd(shared: Path) -> dict[str, Any]:
    """The CRD's schema for v1, closed: fields that it does not name are refused."""
    file = shared / "crds" / "seldon-v1" / "seldondeployments.yaml"
    if not file.exists():
        pytest.skip(f"no Seldon CRD at {file}")
    (document,) = yaml.load_all(file.read_text(), yaml.CSafeLoader)
    (found,) = [each for each in document["spec"]["versions"] if each["name"] == "v1"]
    schema: dict[str, Any] = found["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}  # the API server's own, open in every CRD
    return closed(schema)


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema["type"] = ["integer", "string"]
    return schema


@pytest.mark.parametrize("canary", [None, 10])
def test_the_manifest_is_valid_by_the_crd(crd: dict[str, Any], canary: int | None) -> None:
    standing = build_seldon_deployment(task(), version(2, "sha256:2e"), IMAGE)
    manifest = build_seldon_deployment(task(canary_percent=canary), version(), IMAGE, standing)
    jsonschema.validate(manifest, crd)


def test_the_closed_schema_refuses_an_unknown_field(crd: dict[str, Any]) -> None:
    manifest = build_seldon_deployment(task(), version(), IMAGE)
    manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="readynessProbe"):
        jsonschema.validate(manifest, crd)


def container(manifest: dict[str, Any], predictor: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["predictors"][predictor]
    return found["componentSpecs"][0]["spec"]["containers"][0]


def parameters(predictor: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in predictor["graph"]["parameters"]}


def test_the_server_gets_url_digest_variant_and_version() -> None:
    manifest = build_seldon_deployment(task(variant="int8", replicas=2), version(), IMAGE)
    (predictor,) = manifest["spec"]["predictors"]
    assert predictor["replicas"] == 2
    assert parameters(predictor) == {
        "model_url": "s3://models/int8.tflite",
        "model_digest": "sha256:3f-int8",
        "variant": "int8",
        "model_version": "3",
    }


def test_the_container_has_probes_limits_and_no_privileges() -> None:
    manifest = build_seldon_deployment(task(), version(), IMAGE)
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


def test_a_canary_stands_beside_the_version_that_serves() -> None:
    standing = build_seldon_deployment(task(), version(2, "sha256:2e"), IMAGE)
    manifest = build_seldon_deployment(task(canary_percent=10), version(), IMAGE, standing)
    main, canary = manifest["spec"]["predictors"]
    assert [main["traffic"], canary["traffic"]] == [90, 10]
    assert parameters(main)["model_version"] == "2"
    assert parameters(canary)["model_version"] == "3"


@pytest.mark.parametrize("standing", [None, version()])
def test_without_another_version_there_is_no_canary(standing: dict[str, Any] | None) -> None:
    current = build_seldon_deployment(task(), standing, IMAGE) if standing else None
    manifest = build_seldon_deployment(task(canary_percent=10), version(), IMAGE, current)
    assert [each["traffic"] for each in manifest["spec"]["predictors"]] == [100]


def test_a_variant_that_was_not_published_cannot_be_served() -> None:
    with pytest.raises(
        EndpointError, match=r"no variant float16 that passed its gate \(it has float32, int8\)"
    ):
        chosen_variant(task(variant="float16"), version())


def test_a_task_without_an_endpoint_cannot_be_deployed() -> None:
    bare = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')
    with pytest.raises(EndpointError, match="has no endpoint"):
        chosen_variant(bare, version())


def broken(path: str, value: Any) -> dict[str, Any]:
    standing = build_seldon_deployment(task(), version(2, "sha256:2e"), IMAGE)
    manifest = copy.deepcopy(build_seldon_deployment(task(canary_percent=10), version(), IMAGE, standing))
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
