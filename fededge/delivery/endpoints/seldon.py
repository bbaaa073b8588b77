"""A model version as a SeldonDeployment, and the checks that its CRD leaves out.

The CRD takes any string as protocol, graph type or parameter type, and any weights; Seldon's
operator then fails later, or routes to nowhere. `check` refuses such a manifest first.
"""

from collections.abc import Mapping
from typing import Any

from fededge.documents import ModelVersion, PublishedVariant
from fededge.errors import EndpointError
from fededge.task import Endpoint

GROUP, VERSION, PLURAL = "machinelearning.seldon.io", "v1", "seldondeployments"
MAIN, CANARY = "main", "canary"
CONTAINER = "model"
SERVER = "serving.model_server.ModelServer"
ENVIRONMENT = {
    "INCLUDE_METRICS_IN_CLIENT_RESPONSE": "false",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),  # give the memory of large requests back to the system
    "SETUPTOOLS_USE_DISTUTILS": "stdlib",  # Seldon imports distutils; setuptools' own takes much longer
}
POD_ENVIRONMENT = {**ENVIRONMENT, "FEDEDGE_ENDPOINT_HOST": "0.0.0.0"}
STORAGE_SECRET = "fededge-storage"
USER = 10001
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
    predictor = _predictor(MAIN, image, variant, version, replicas)
    predictors = [predictor]
    standing = _standing(current)
    if endpoint.canary_percent and standing and _digest(standing) != variant.digest:
        canary = _predictor(CANARY, image, variant, version, 1)
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
    name: str, image: str, variant: PublishedVariant, version: ModelVersion, replicas: int
) -> dict[str, Any]:
    parameters = {
        "model_url": variant.url,
        "model_digest": variant.digest,
        "variant": variant.kind,
        "model_version": str(version.version),
    }
    return {
        "name": name,
        "replicas": replicas,
        "traffic": 100,
        "labels": {
            "fededge.io/model-version": str(version.version),
            "fededge.io/variant": variant.kind,
        },
        "graph": {
            "name": CONTAINER,
            "type": "MODEL",
            "parameters": [
                {"name": key, "value": value, "type": "STRING"} for key, value in parameters.items()
            ],
        },
        "componentSpecs": [{"spec": _pod(image)}],
    }


def _pod(image: str) -> dict[str, Any]:
    def probe(path: str, **times: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2, **times}

    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 20,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["seldon-core-microservice", SERVER, "--service-type", "MODEL"],
                "env": [{"name": key, "value": value} for key, value in POD_ENVIRONMENT.items()],
                "envFrom": [{"secretRef": {"name": STORAGE_SECRET, "optional": True}}],
                "readinessProbe": probe("/ready", periodSeconds=2, failureThreshold=3),
                "livenessProbe": probe("/live", initialDelaySeconds=10, periodSeconds=10, failureThreshold=3),
                "resources": {
                    "requests": {"cpu": "250m", "memory": "256Mi"},
                    "limits": {"cpu": "1", "memory": "1Gi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }


def _standing(current: Mapping[str, Any] | None) -> dict[str, Any] | None:
    predictors = current["spec"]["predictors"] if current else []
    return next((dict(predictor) for predictor in predictors if predictor["name"] == MAIN), None)


def _digest(predictor: Mapping[str, Any]) -> str | None:
    parameters = predictor["graph"].get("parameters", [])
    return next((each["value"] for each in parameters if each["name"] == "model_digest"), None)
