"""Train the same model at each client alone, for comparison."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def train_alone(
    task: str,
    run: str,
    population: Input[Artifact],
    data: Input[Dataset],
    test: Input[Dataset],
    alone: Output[Metrics],
) -> None:
    """Train the task's model at each client on that client's examples alone, with as many passes as rounds.

    What a client reaches without the others: what federated learning must beat to be worth it. Only in a simulated
    population, since each model is scored on the same held-out examples.

    Args:
        task: the task as canonical JSON, or of it what the step depends on.
        run: id of the pipeline run; "" where FEDEDGE_RUN tells it, so that Kubeflow may reuse the step.
        population: must be simulated.
        data: a folder for each simulated client.
        test: held-out examples.
        alone: the document of the clients' scores.
    """
    from pathlib import Path

    from fededge import lineage
    from fededge.documents import ClientScore, Population
    from fededge.learning import centralized as training
    from fededge.learning.frameworks import model_spec
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec, described=False).step("train_alone") as step:
        lineage.verify(population, data, test)

        def report(found: ClientScore) -> None:
            print(f"fededge: {found.id} alone: score {found.score:.4f}", flush=True)

        clients = Population.read(population.path)
        model = model_spec(spec.model, clients.example, spec.seed)
        result = training.train_each(
            model, spec.learning, spec.seed, clients, Path(data.path), Path(test.path), report
        )
        result.write(alone.path)
        alone.log_metric(result.metric, result.mean)
        lineage.seal(alone, parents=[population, data, test], **step.made)
        step.alone(result, spec.learning.rounds)
