"""Train the same model on the pooled data, for comparison."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def train_centralized(
    task: str, run: str, data: Input[Dataset], test: Input[Dataset], centralized: Output[Metrics]
) -> None:
    """Train the task's model on all clients' data together, with as many sample passes.

    Only where the data may be pooled, as in simulation: this is the yardstick for the federated model.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        data: one folder a client.
        test: held-out examples.
        centralized: JSON with accuracy, loss, per_class, confusion and samples.
    """
    import json
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.learning.frameworks.keras import centralized as training
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("train_centralized") as step:
        lineage.verify(data, test)

        def report(number: int, result: dict) -> None:  # type: ignore[type-arg]
            metrics = {"centralized/accuracy": result["accuracy"], "centralized/loss": result["loss"]}
            step.metrics(metrics, step=number)
            print(
                f"fededge: centralized pass {number}/{spec.learning.rounds}: accuracy {result['accuracy']:.4f}"
            )

        result = training.train(spec, Path(data.path), Path(test.path), report)
        storage.write(centralized.path, json.dumps(result).encode())
        centralized.log_metric("accuracy", result["accuracy"])
        centralized.log_metric("loss", result["loss"])
        lineage.seal(centralized, parents=[data, test])
        step.record("centralized", result)
