"""Measure the variants of a model."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.images import SERVING


@dsl.component(base_image=SERVING, install_kfp_package=False)
def measure_variants(
    task: str,
    run: str,
    variants: Input[Model],
    test: Input[Dataset],
    evaluation: Input[Metrics],
    measurements: Output[Metrics],
) -> None:
    """Measure each variant's size, score and latency in its runtime, and hold it against its gate.

    A variant that fails its gate is recorded as such and does not fail the step. A retry measures
    the same but for latency.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        variants: a folder with a file for each kind.
        test: held-out examples.
        evaluation: of the model that the variants were built from, on the same examples.
        measurements: a folder with a measurement document for each kind; metadata KIND/FIGURE.
    """
    from pathlib import Path

    from fededge import examples, lineage, storage
    from fededge.delivery import gates
    from fededge.delivery.variants.measurement import measure
    from fededge.documents import Evaluation, Schema
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("measure_variants") as step:
        lineage.verify(variants, test, evaluation)
        reference = Evaluation.read(evaluation.path).score
        x, y = examples.read(test.path)
        described = Path(test.path) / "schema.json"
        schema = Schema.read(described) if described.exists() else None
        for kind in variants.metadata["kinds"]:
            figures = measure(storage.read(str(Path(variants.path) / kind)), kind, x, y, reference, schema)
            judged = gates.judge_variant(gates.variant_gate(spec, kind), figures)
            judged.write(Path(measurements.path) / f"{kind}.json")
            measurements.log_metric(f"{kind}/{judged.metric}", judged.score)
            for name in ("score_loss", "bytes", "latency_ms_1", "latency_ms_500"):
                measurements.log_metric(f"{kind}/{name}", getattr(judged, name))
            step.variant(judged)
            step.record(f"variant-{kind}", judged)
            print(
                f"fededge: {kind} has {judged.metric} {judged.score:.4f}, {judged.bytes:,} bytes", flush=True
            )
        lineage.seal(measurements, parents=[variants, test, evaluation])
