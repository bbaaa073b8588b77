"""Register a model version."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def register_model(
    task: str,
    run: str,
    state: Input[Model],
    evaluation: Input[Metrics],
    decision: Input[Artifact],
    variants: Input[list[Model]],
    measurements: Input[list[Metrics]],
    version: Output[Model],
) -> None:
    """Publish the variants that passed their gates and register the model version in MLflow.

    The version gets the alias `candidate`, then `champion` where the decision is `pass`. A retry
    gives the same version.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        state: the trained global model.
        evaluation: of the model on held-out data.
        decision: of the model's gate.
        variants: all variants that were built.
        measurements: of all variants, in any order.
        version: the model-version document: variants by URL and digest, and which device class
            gets which.
    """
    import json
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.delivery import registry
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    tracked = TrackedRun.join(run, spec)
    with tracked.step("register_model") as step:
        lineage.verify(state, evaluation, decision, *variants, *measurements)
        document = registry.register(
            spec,
            run,
            tracked,
            registry.Trained(
                state=Path(state.path),
                digest=state.metadata["digest"],
                round=int(state.metadata["round"]),
                accuracy=float(json.loads(Path(evaluation.path).read_bytes())["accuracy"]),
            ),
            {variant.metadata["kind"]: storage.read(variant.path) for variant in variants},
            [json.loads(Path(measurement.path).read_bytes()) for measurement in measurements],
            passed=json.loads(Path(decision.path).read_bytes())["decision"] == "pass",
        )
        Path(version.path).write_text(json.dumps(document))
        parents = [state, evaluation, decision, *variants, *measurements]
        lineage.seal(version, parents=parents, round=document["round"], version=document["version"])
        step.record("version", document)
