"""Check that an endpoint answers as its model does."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

from components.images import SERVING


@dsl.component(base_image=SERVING, install_kfp_package=False)
def check_endpoint(
    task: str,
    run: str,
    endpoint: Input[Artifact],
    version: Input[Model],
    test: Input[Dataset],
    check: Output[Metrics],
) -> None:
    """Ask an endpoint over REST and gRPC, and compare with the answers of the model file itself.

    Where another run replaced what is served, with the champion of now, that one is checked.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        endpoint: the endpoint document.
        version: the model-version document of what was deployed.
        test: held-out examples.
        check: the endpoint-check document: largest differences and times.
    """
    from fededge import examples, lineage
    from fededge.delivery import registry
    from fededge.delivery.endpoints import check as endpoint_check
    from fededge.documents import Endpoint, ModelVersion
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("check_endpoint") as step:
        lineage.verify(endpoint, version, test)
        served = ModelVersion.read(version.path)
        found = endpoint_check.check(
            Endpoint.read(endpoint.path),
            served,
            lambda: registry.champion_document(served.name),
            examples.read(test.path)[0],
        )
        found.write(check.path)
        for transport, asked in (("rest", found.rest), ("grpc", found.grpc)):
            check.log_metric(f"{transport}_max_abs_difference", asked.max_abs_difference)
            check.log_metric(f"{transport}_milliseconds", asked.milliseconds)
        lineage.seal(check, parents=[endpoint, version, test], version=found.version)
        step.record("endpoint_check", found)
        if found.version != served.version:
            print(f"fededge: {registry.superseded(served.version, found.version)}, and was checked instead")
