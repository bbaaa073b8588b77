"""Deploying a model version as an inference endpoint: on a cluster by Seldon, here as a process."""

from collections.abc import Mapping
from typing import Any

from fededge import settings
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.cluster import Cluster
from fededge.delivery.endpoints.seldon import build_seldon_deployment, chosen_variant
from fededge.task import FederatedTask

REST_PORT, GRPC_PORT = 8000, 5001  # of a predictor's service, by Seldon


def deploy(task: FederatedTask, version: Mapping[str, Any], image: str) -> dict[str, Any]:
    """Serve the variant that the task's endpoint asks for; returns when it is ready.

    Repeated with the same version, it changes nothing.

    Args:
        task: with an endpoint.
        version: model-version document.
        image: of the model server, for a cluster.

    Returns:
        The endpoint document: name, namespace, `rest` (URL), `grpc` (host:port), `manifest` (the
        SeldonDeployment), variant, digest and version.

    Raises:
        EndpointError: no such variant, a cluster that cannot be reached or refuses, or a server
            that does not become ready.
        PortInUse: a configured port is taken.
    """
    variant = chosen_variant(task, version)
    if settings.platform() == "local":
        manifest = build_seldon_deployment(task, version, image)
        serving = local_endpoint.start(manifest["metadata"]["name"], variant, version["version"])
        rest, grpc = serving.rest, serving.grpc
    else:
        manifest = _apply(task, version, image)
        host = _host(manifest)
        rest, grpc = f"http://{host}:{REST_PORT}", f"{host}:{GRPC_PORT}"
    return {
        "name": manifest["metadata"]["name"],
        "namespace": manifest["metadata"]["namespace"],
        "rest": rest,
        "grpc": grpc,
        "manifest": manifest,
        "variant": variant["kind"],
        "digest": variant["digest"],
        "version": version["version"],
    }


def _apply(task: FederatedTask, version: Mapping[str, Any], image: str) -> dict[str, Any]:
    assert task.endpoint is not None
    cluster = Cluster()
    current = cluster.get(task.endpoint.namespace, task.endpoint.name)
    manifest = build_seldon_deployment(task, version, image, current)
    cluster.apply(manifest)
    cluster.wait(task.endpoint.namespace, task.endpoint.name)
    return manifest


def _host(manifest: Mapping[str, Any]) -> str:
    """The service of the predictor that serves the new version: the last one."""
    metadata, predictor = manifest["metadata"], manifest["spec"]["predictors"][-1]
    return f"{metadata['name']}-{predictor['name']}.{metadata['namespace']}.svc.cluster.local"
