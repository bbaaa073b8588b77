"""Load a task's examples and spread them over simulated clients, or see which clients of a fleet hold theirs."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def prepare_data(
    task: str,
    compiled: str,
    run: str,
    population: Output[Artifact],
    data: Output[Dataset],
    test: Output[Dataset],
) -> None:
    """Load the task's examples and spread them over clients, each in its own folder; of a fleet, find its clients.

    As the first step of a pipeline it refuses another task than the pipeline was compiled for. The same
    task gives the same files. A retry writes them again.

    Args:
        task: the task as canonical JSON, or of it what the step depends on.
        compiled: the task that the pipeline was compiled for.
        run: id of the pipeline run; "" where FEDEDGE_RUN tells it, so that Kubeflow may reuse the step.
        population: the clients and how many examples they hold, never the examples.
        data: a folder for each simulated client: for run_rounds, evaluate_model and train_centralized alone; of a fleet
            nothing but a document that says where the examples are.
        test: held-out examples that no client sees; in `validation` those that the task keeps beside them.
    """
    from pathlib import Path

    from fededge import lineage
    from fededge.fleet import census
    from fededge.fleet.gateway_client import GatewayClient
    from fededge.learning.data import folders
    from fededge.task import FederatedTask, FleetData
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    spec.refuse_other(compiled)
    with TrackedRun.join(run, spec, described=False).step("prepare_data") as step:
        kept, held = Path(data.path), Path(test.path)
        if isinstance(spec.data, FleetData):
            schema, held_out = folders.prepare_held_out(spec.data.held_out, spec.seed, held)
            with GatewayClient.from_settings(spec.operation.retry_seconds) as gateway:
                clients = census.take(
                    gateway,
                    spec.data.dataset,
                    schema,
                    held_out,
                    kept,
                    lambda line: print(f"fededge: {line}", flush=True),
                )
        else:
            clients = folders.prepare(spec.local_data, spec.partition, spec.seed, kept, held)
        lineage.seal(data, clients=clients.size)
        lineage.seal(test)
        digests = {"data_digest": data.metadata["digest"], "test_digest": test.metadata["digest"]}
        clients = clients.model_copy(update=digests)
        clients.write(population.path)
        lineage.seal(population, parents=[data, test], **step.made)
        step.data(clients, spec.data.source)
