"""A model version as a SeldonDeployment, and the checks that its CRD leaves out.

The CRD takes any string as protocol, graph type or parameter type, and any weights; Seldon's
operator then fails later, or routes to nowhere. `check` refuses such a manifest first.
"""

import json
from collections.abc import Mapping
from typing import Any

from fededge import storage
from fededge.delivery.endpoints.pod import CONTAINER, component
from fededge.documents import ModelVersion, PublishedVariant
from fededge.errors import EndpointError
from fededge.task import Endpoint

GROUP, VERSION, PLURAL = "machinelearning.seldon.io", "v1", "seldondeployments"
MAIN, CANARY = "main", "canary"
VERSION_LABEL = "fededge.io/model-version"
NO_EXECUTOR = {"seldon.io/no-engine": "true"}
EXECUTOR_PORTS, SERVER_PORTS = (8000, 5001), (9000, 9500)
"""REST and gRPC port of a predictor's service, by Seldon: with its executor, and without."""
INGRESS = ("istioVirtualServicesReady", "AmbassadorMappingsReady")
GRPC_BYTES = str(16 << 20)

PROTOCOLS = {"seldon", "tensorflow", "kfserving", "v2"}
GRAPH_TYPES = {"MODEL", "ROUTER", "COMBINER", "TRANSFORMER", "OUTPUT_TRANSFORMER"}
ENDPOINT_TYPES = {"REST", "GRPC"}
PARAMETER_TYPES = {"INT", "FLOAT", "DOUBLE", "STRING", "BOOL"}


def chosen_variant(endpoint: Endpoint, version: ModelVersion) -> PublishedVariant:
    """The variant of a model version that an endpoint serves.

    Raises:
        EndpointError: the version has no such variant.
    """
    variant = version.variant(endpoint.variant)
    if variant is not None:
        return variant
    kinds = ", ".join(variant.kind for variant in version.variants) or "none"
    raise EndpointError(
        f"version {version.version} of {version.name} has no variant {endpoint.variant} that "
        f"passed its gate (it has {kinds}): name one of those in endpoint.variant, or loosen its gate"
    )


def build_seldon_deployment(
    endpoint: Endpoint,
    replicas: int,
    version: ModelVersion,
    image: str,
    current: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest that serves a model version.

    With `endpoint.canary_percent` and a deployment whose main predictor serves another version, that
    predictor stays and the new version takes `canary_percent` of the traffic beside it.

    Args:
        endpoint: the task's section.
        replicas: servers of the new version.
        version: of the model.
        image: of the model server.
        current: the SeldonDeployment that stands, if any.

    Returns:
        A SeldonDeployment that `check` has passed.

    Raises:
        EndpointError: no such variant, or a manifest that Seldon would not run.
    """
    variant = chosen_variant(endpoint, version)
    predictors = [_predictor(MAIN, endpoint, replicas, version, image)]
    standing = _standing(current)
    if endpoint.canary_percent and standing and _digest(standing) != variant.digest:
        alone = endpoint.model_copy(update={"autoscale": None, "min_available": None})
        canary = _predictor(CANARY, alone, 1, version, image)
        predictors = [
            {**standing, "traffic": 100 - endpoint.canary_percent},
            {**canary, "traffic": endpoint.canary_percent},
        ]
    manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SeldonDeployment",
        "metadata": {
            "name": endpoint.name,
            "namespace": endpoint.namespace,
            "labels": {
                "app.kubernetes.io/name": endpoint.name,
                "app.kubernetes.io/managed-by": "fededge",
                "app.kubernetes.io/part-of": version.name,
            },
        },
        "spec": {
            "name": endpoint.name,
            "protocol": "seldon",
            "annotations": {"seldon.io/grpc-max-message-size": GRPC_BYTES},
            "predictors": predictors,
        },
    }
    check(manifest)
    return manifest


def deployment_name(endpoint: str, predictor: str) -> str:
    """Name that Seldon gives the Deployment of a predictor."""
    return f"{endpoint}-{predictor}-0-{CONTAINER}"


def ports(predictor: Mapping[str, Any]) -> tuple[int, int]:
    """REST and gRPC port of a predictor's pods and its service."""
    direct = NO_EXECUTOR.items() <= predictor.get("annotations", {}).items()
    return SERVER_PORTS if direct else EXECUTOR_PORTS


def addresses(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """REST URL and gRPC host:port, in the cluster, of the predictor that serves the new version: the last one."""
    metadata, predictor = manifest["metadata"], manifest["spec"]["predictors"][-1]
    host = f"{metadata['name']}-{predictor['name']}.{metadata['namespace']}.svc.cluster.local"
    rest, grpc = ports(predictor)
    return f"http://{host}:{rest}", f"{host}:{grpc}"


def beside_canary(manifest: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """`manifest` with the canary of `current` still beside it, at its share of the traffic.

    Seldon removes a canary before main serves its version; so main goes first.
    """
    canary = next(each for each in current["spec"]["predictors"] if each["name"] == CANARY)
    (main,) = manifest["spec"]["predictors"]
    predictors = [{**main, "traffic": 100 - canary["traffic"]}, canary]
    return {**manifest, "spec": {**manifest["spec"], "predictors": predictors}}


def has_ingress(current: Mapping[str, Any]) -> bool:
    """Whether an ingress that Seldon knows (Istio or Ambassador) divides the traffic of what stands."""
    conditions = (current.get("status") or {}).get("conditions") or ()
    return any(
        each["type"] in INGRESS and not str(each.get("reason", "")).startswith("No ") for each in conditions
    )


def check(manifest: Mapping[str, Any]) -> None:
    """Refuse a SeldonDeployment that the CRD accepts but Seldon does not run.

    Raises:
        EndpointError: a protocol, graph type, endpoint type or parameter type that does not exist; traffic
            that does not total 100; two shadows; a name used twice or too long; a graph node
            without a container.
    """
    spec = manifest["spec"]
    predictors = spec["predictors"]
    name = manifest["metadata"]["name"]
    _one_of("spec.protocol", spec.get("protocol", "seldon"), PROTOCOLS)
    names = [predictor["name"] for predictor in predictors]
    if len(set(names)) != len(names) or not names:
        raise EndpointError(f"predictors of {name} are named {names}: give each its own name")
    if too_long := [each for each in names if len(f"{name}-{each}-{CONTAINER}") > 63]:
        raise EndpointError(
            f"{name}-{too_long[0]} is too long for a Kubernetes service: shorten endpoint.name"
        )
    if sum(predictor.get("shadow", False) for predictor in predictors) > 1:
        raise EndpointError(f"{name} has several shadow predictors: Seldon takes one")
    live = [predictor for predictor in predictors if not predictor.get("shadow", False)]
    weights = [predictor.get("traffic", 100 if len(live) == 1 else 0) for predictor in live]
    if sum(weights) != 100 or min(weights, default=0) < 0:
        raise EndpointError(f"traffic of {name} is {weights}, which must total 100: correct canary_percent")
    for predictor in predictors:
        specs = [part.get("spec", {}) for part in predictor.get("componentSpecs", [])]
        containers = {container["name"] for spec in specs for container in spec.get("containers", [])}
        _check_graph(predictor["graph"], containers, f"predictor {predictor['name']}")


def _check_graph(node: Mapping[str, Any], containers: set[str], where: str) -> None:
    if "type" in node:
        _one_of(f"{where}: graph.type", node["type"], GRAPH_TYPES)
    if "type" in node.get("endpoint", {}):
        _one_of(f"{where}: graph.endpoint.type", node["endpoint"]["type"], ENDPOINT_TYPES)
    for parameter in node.get("parameters", []):
        _one_of(f"{where}: type of parameter {parameter['name']}", parameter["type"], PARAMETER_TYPES)
    if node["name"] not in containers and not node.get("implementation"):
        raise EndpointError(f"{where}: graph node {node['name']} has no container of that name: add it")
    for child in node.get("children", []):
        _check_graph(child, containers, where)


def _one_of(where: str, found: str, known: set[str]) -> None:
    if found not in known:
        raise EndpointError(f"{where} is {found!r}: use one of {', '.join(sorted(known))}")


def _predictor(
    name: str, endpoint: Endpoint, replicas: int, version: ModelVersion, image: str
) -> dict[str, Any]:
    variant = chosen_variant(endpoint, version)
    parameters = {
        "model_url": variant.url,
        "model_digest": variant.digest,
        "variant": variant.kind,
        "model_version": str(version.version),
    }
    predictor: dict[str, Any] = {
        "name": name,
        "traffic": 100,
        "progressDeadlineSeconds": endpoint.deadline_seconds,
        "graph": {
            "name": CONTAINER,
            "type": "MODEL",
            "parameters": [
                {"name": key, "value": value, "type": "STRING"} for key, value in parameters.items()
            ],
        },
        "componentSpecs": [component(endpoint, replicas, image, deployment_name(endpoint.name, name))],
    }
    if not endpoint.autoscale:
        predictor["replicas"] = replicas
    if not endpoint.executor:
        predictor["annotations"] = NO_EXECUTOR
    labels = {
        VERSION_LABEL: str(version.version),
        "fededge.io/variant": variant.kind,
        "fededge.io/predictor": storage.digest(json.dumps(predictor, sort_keys=True).encode())[7:23],
    }
    return {**predictor, "labels": labels}


def _standing(current: Mapping[str, Any] | None) -> dict[str, Any] | None:
    predictors = current["spec"]["predictors"] if current else []
    return next((dict(predictor) for predictor in predictors if predictor["name"] == MAIN), None)


def _digest(predictor: Mapping[str, Any]) -> str | None:
    parameters = predictor["graph"].get("parameters", [])
    return next((each["value"] for each in parameters if each["name"] == "model_digest"), None)
