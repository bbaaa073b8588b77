"""Serve the champion."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def deploy_endpoint(
    task: str,
    run: str,
    image: str,
    version: Input[Model],
    endpoint: Output[Artifact],
    served: Output[Model],
) -> None:
    """Serve the endpoint's variant of the champion: by Seldon on a cluster, as a process locally.

    The champion is the given version, unless another took its place or someone rolled back meanwhile; then
    that one is served, as its own task says. A retry with the same champion changes nothing.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        image: of the model server, for a cluster.
        version: the model-version document of this run's model.
        endpoint: the endpoint document: where it answers, what it serves, and its SeldonDeployment.
        served: the model-version document of what is served.
    """
    from fededge import lineage
    from fededge.delivery import registry
    from fededge.delivery.endpoints import deployment
    from fededge.documents import Endpoint, ModelVersion
    from fededge.errors import EndpointError
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("deploy_endpoint") as step:
        lineage.verify(version)
        registered = ModelVersion.read(version.path)

        def serve(champion: ModelVersion) -> Endpoint:
            other = champion.version != registered.version
            wanted = registry.task_of(champion) if other else spec
            section = wanted.endpoint or spec.endpoint
            if section is None:
                raise EndpointError(
                    f"task {spec.name} has no endpoint: add `endpoint: {{name: {spec.name}}}` to it"
                )
            if other:
                print(f"fededge: {registry.superseded(registered.version, champion.version)}")
            return deployment.deploy(section, wanted.operation.replicas, champion, image)

        champion, document = registry.for_champion(spec.name, serve)
        if champion.version != registered.version:
            document = document.model_copy(update={"instead_of": registered.version})
        champion.write(served.path)
        document.write(endpoint.path)
        lineage.seal(served, parents=[version], round=champion.round, version=champion.version)
        lineage.seal(endpoint, parents=[version, served], rest=document.rest, grpc=document.grpc)
        step.record("endpoint", document)
        print(f"fededge: endpoint {document.name} serves version {document.version}, {document.variant}")
