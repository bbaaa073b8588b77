"""Deploying a model version as an inference endpoint: on a cluster by Seldon, here as a process."""

from collections.abc import Mapping
from typing import Any

from fededge import settings
from fededge import task as tasks
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.cluster import Cluster
from fededge.delivery.endpoints.seldon import build_seldon_deployment, chosen_variant
from fededge.documents import Endpoint, ModelVersion
from fededge.errors import EndpointError

REST_PORT, GRPC_PORT = 8000, 5001  # of a predictor's service, by Seldon


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
        host = _host(manifest)
        rest, grpc = f"http://{host}:{REST_PORT}", f"{host}:{GRPC_PORT}"
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
    manifest = build_seldon_deployment(wanted, replicas, version, image, current)
    cluster.apply(manifest)
    cluster.wait(wanted.namespace, wanted.name)
    return manifest


def _host(manifest: Mapping[str, Any]) -> str:
    """The service of the predictor that serves the new version: the last one."""
    metadata, predictor = manifest["metadata"], manifest["spec"]["predictors"][-1]
    return f"{metadata['name']}-{predictor['name']}.{metadata['namespace']}.svc.cluster.local"
