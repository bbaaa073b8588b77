"""Serve a model version."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def deploy_endpoint(task: str, run: str, version: Input[Model], endpoint: Output[Artifact]) -> None:
    """Serve the endpoint's variant of a model version: by Seldon on a cluster, as a process locally.

    A retry with the same version changes nothing.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        version: the model-version document.
        endpoint: where it answers, what it serves, and its SeldonDeployment, as JSON.
    """
    import json
    from pathlib import Path

    from components.images import SERVING
    from fededge import lineage
    from fededge.delivery.endpoints import deployment as endpoints
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("deploy_endpoint") as step:
        lineage.verify(version)
        document = endpoints.deploy(spec, json.loads(Path(version.path).read_bytes()), SERVING)
        Path(endpoint.path).write_text(json.dumps(document, indent=1))
        lineage.seal(endpoint, parents=[version], rest=document["rest"], grpc=document["grpc"])
        step.record("endpoint", document)
