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

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        endpoint: the endpoint document.
        version: the model-version document.
        test: held-out examples.
        check: largest differences and times as JSON.
    """
    import json
    from pathlib import Path

    from fededge import lineage, settings
    from fededge.delivery.endpoints import check as endpoint_check
    from fededge.delivery.variants.measurement import held_out
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("check_endpoint") as step:
        lineage.verify(endpoint, version, test)
        served, registered = (json.loads(Path(each.path).read_bytes()) for each in (endpoint, version))
        patience = 0.0 if settings.platform() == "local" else 300.0
        found = endpoint_check.check(served, registered, held_out(Path(test.path))[0], patience)
        Path(check.path).write_text(json.dumps(found, indent=1))
        lineage.seal(check, parents=[endpoint, version, test])
        step.record("endpoint_check", found)
