"""Evaluate the global model on held-out data and at each client."""

from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def evaluate_model(
    task: str,
    run: str,
    data: Input[Dataset],
    test: Input[Dataset],
    plan: Input[Artifact],
    state: Input[Model],
    evaluation: Output[Metrics],
    classification: Output[ClassificationMetrics],
) -> None:
    """Evaluate the global model on held-out examples, and at each client on that client's own.

    In the federated engine a client evaluates where its data is and sends back counts only.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        data: one folder a client.
        test: held-out examples.
        plan: what clients execute.
        state: the global model.
        evaluation: JSON with accuracy, loss, per_class, confusion, clients and failed.
        classification: the confusion matrix, for the Kubeflow UI.
    """
    import json
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.learning import evaluation as measures
    from fededge.learning import state as states
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    current = states.load(state.path)
    with TrackedRun.join(run, spec).step(f"evaluate_model-{current.round:04d}") as step:
        lineage.verify(data, test, plan, state)
        result = measures.evaluate_state(spec, current, Path(data.path), Path(test.path), Path(plan.path))
        storage.write(evaluation.path, json.dumps(result).encode())
        evaluation.log_metric("accuracy", result["accuracy"])
        evaluation.log_metric("loss", result["loss"])
        lineage.seal(evaluation, parents=[state, data, test], round=current.round)
        classification.log_confusion_matrix(
            [str(row["label"]) for row in result["per_class"]], result["confusion"]
        )
        step.metrics(
            {"federated/accuracy": result["accuracy"], "federated/loss": result["loss"]}, step=current.round
        )
        step.record(f"evaluation-{current.round:04d}", result)
        for client, reason in result["failed"].items():
            print(f"fededge: {client} did not evaluate the model: {reason}")
        print(
            f"fededge: after round {current.round}: accuracy {result['accuracy']:.4f}, loss {result['loss']:.4f}"
        )
