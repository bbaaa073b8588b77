"""Train the same model on the pooled data, for comparison."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def train_centralized(
    task: str,
    run: str,
    population: Input[Artifact],
    data: Input[Dataset],
    test: Input[Dataset],
    centralized: Output[Metrics],
) -> float:
    """Train the task's model on all clients' data together, with as many sample passes.

    Only in a simulated population, whose data lies in one place anyhow, and only where the task asks for it
    (compare.centralized): what federated learning is held against.

    Args:
        task: the task as canonical JSON, or of it what the step depends on.
        run: id of the pipeline run; "" where FEDEDGE_RUN tells it, so that Kubeflow may reuse the step.
        population: must be simulated.
        data: a folder for each simulated client.
        test: held-out examples.
        centralized: the evaluation document, with the scores after each pass.

    Returns:
        The model on the held-out examples, in the gate's metric.
    """
    from pathlib import Path

    from fededge import lineage
    from fededge.delivery.gates import NOT_COMPARED
    from fededge.documents import Evaluation, Population
    from fededge.learning import centralized as training
    from fededge.learning.frameworks import model_spec
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec, described=False).step("train_centralized") as step:
        lineage.verify(population, data, test)

        def report(result: Evaluation) -> None:
            metrics = {f"centralized/{result.metric}": result.score, "centralized/loss": result.loss}
            step.metrics(metrics, step=result.round)
            print(
                f"fededge: centralized pass {result.round}/{spec.learning.rounds}: "
                f"{result.metric} {result.score:.4f}"
            )

        clients = Population.read(population.path)
        model = model_spec(spec.model, clients.example, spec.seed)
        result = training.train(
            model,
            spec.learning,
            spec.seed,
            clients,
            Path(data.path),
            Path(test.path),
            report,
            named=spec.metrics,
            code=spec.model.code,
        )
        result.write(centralized.path)
        for name, figure in result.metrics.items():
            centralized.log_metric(name, figure)
        lineage.seal(centralized, parents=[population, data, test], **step.made)
        step.centralized(result)
    value = result.value(spec.gate.metric or result.metric)
    return NOT_COMPARED if value is None else value
