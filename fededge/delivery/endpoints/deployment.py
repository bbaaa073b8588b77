"""Deploying a model version as an inference endpoint: on a cluster by Seldon, here as a process."""

from collections.abc import Mapping
from typing import Any

from fededge import settings
from fededge import task as tasks
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.cluster import Cluster
from fededge.delivery.endpoints.seldon import (
    CANARY,
    MAIN,
    addresses,
    beside_canary,
    build_seldon_deployment,
    chosen_variant,
    has_ingress,
)
from fededge.documents import Endpoint, ModelVersion
from fededge.errors import EndpointError


def deploy(wanted: tasks.Endpoint, replicas: int, version: ModelVersion, image: str) -> Endpoint:
    """Serve the variant that a task's endpoint asks for; returns when it is ready.

    Repeated with the same version, it changes nothing.

    Args:
        wanted: the task's section.
        replicas: servers on a cluster.
        version: of the model.
        image: of the model server, for a cluster.

    Returns:
        Where it answers, with the SeldonDeployment as its manifest.

    Raises:
        EndpointError: no such variant, a cluster that cannot be reached or refuses, or a server
            that does not become ready.
        PortInUse: a configured port is taken.
    """
    variant = chosen_variant(wanted, version)
    if settings.platform() == "local":
        manifest = build_seldon_deployment(wanted, replicas, version, image)
        serving = local_endpoint.start(wanted.name, variant, version.version)
        rest, grpc = serving.rest, serving.grpc
    else:
        manifest = _apply(wanted, replicas, version, image)
        rest, grpc = addresses(manifest)
    return Endpoint(
        name=wanted.name,
        namespace=wanted.namespace,
        rest=rest,
        grpc=grpc,
        manifest=manifest,
        variant=variant.kind,
        digest=variant.digest,
        version=version.version,
    )


def standing(deployed: Endpoint) -> Endpoint:
    """`deployed` with where it answers now: on this machine, what replaced it took other ports.

    While another version takes its place, this waits for the end of that.

    Raises:
        EndpointError: no such endpoint runs on this machine.
    """
    if settings.platform() != "local":
        return deployed
    found = local_endpoint.find(deployed.name)
    if found is None:
        raise EndpointError(f"no endpoint {deployed.name} runs on this machine any more: deploy it again")
    return deployed.model_copy(update={"rest": found.rest, "grpc": found.grpc})


def _apply(wanted: tasks.Endpoint, replicas: int, version: ModelVersion, image: str) -> dict[str, Any]:
    cluster = Cluster()
    current = cluster.get(wanted.namespace, wanted.name)
    answering = cluster.answering(current) if current else set()
    # A canary stands only beside a version that answers.
    manifest = build_seldon_deployment(
        wanted, replicas, version, image, current if MAIN in answering else None
    )
    if current:
        _tell_what_to_expect(wanted, manifest, current)
    limits = {"patience": wanted.patience_seconds, "deadline": float(wanted.deadline_seconds)}
    if current and CANARY in answering and len(manifest["spec"]["predictors"]) == 1:
        cluster.apply(beside_canary(manifest, current))
        cluster.wait(manifest, **limits)
    cluster.apply(manifest)
    cluster.wait(manifest, **limits)
    return manifest


def _tell_what_to_expect(
    wanted: tasks.Endpoint, manifest: Mapping[str, Any], current: Mapping[str, Any]
) -> None:
    if wanted.executor:
        print(
            f"fededge: endpoint {wanted.name} runs behind Seldon's executor, which stops listening before Kubernetes "
            "stops sending to it: until the new version has taken over, clients see refused connections"
        )
    if len(manifest["spec"]["predictors"]) > 1 and not has_ingress(current):
        print(
            f"fededge: no Istio or Ambassador divides the traffic of endpoint {wanted.name}: each version gets what "
            f"is sent to its own service, and canary_percent {wanted.canary_percent} has no effect by itself"
        )
