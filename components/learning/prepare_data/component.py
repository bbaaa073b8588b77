"""Load a task's examples and spread them over clients."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def prepare_data(task: str, run: str, data: Output[Dataset], test: Output[Dataset]) -> None:
    """Load the task's examples and spread them over clients, each in its own folder.

    The same task gives the same files. A retry writes them again.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        data: population.json and one folder a client.
        test: held-out examples, x.npy and y.npy, that no client sees.
    """
    from pathlib import Path

    from fededge import lineage
    from fededge.learning.data import folders
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("prepare_data") as step:
        population = folders.prepare(spec, Path(data.path), Path(test.path))
        lineage.seal(data, clients=len(population["clients"]))
        lineage.seal(test)
        step.record(
            "data", population | {"digest": data.metadata["digest"], "test_digest": test.metadata["digest"]}
        )
