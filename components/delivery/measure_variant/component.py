"""Measure one variant."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.images import SERVING


@dsl.component(base_image=SERVING, install_kfp_package=False)
def measure_variant(
    task: str,
    run: str,
    variant: Input[Model],
    test: Input[Dataset],
    evaluation: Input[Metrics],
    measurement: Output[Metrics],
) -> None:
    """Measure a variant's size, accuracy and latency in LiteRT, and hold it against its gate.

    A variant that fails its gate is recorded as such and does not fail the step. A retry measures
    the same but for latency.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        variant: the LiteRT file.
        test: held-out examples.
        evaluation: of the model that the variant was built from, on the same examples.
        measurement: the measurement document.
    """
    from fededge import examples, lineage, storage
    from fededge.delivery import gates
    from fededge.delivery.variants.measurement import measure
    from fededge.documents import Evaluation
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    kind = variant.metadata["kind"]
    with TrackedRun.join(run, spec).step(f"measure_variant-{kind}") as step:
        lineage.verify(variant, test, evaluation)
        reference = Evaluation.read(evaluation.path).accuracy
        x, y = examples.read(test.path)
        figures = measure(storage.read(variant.path), kind, x, y, reference)
        judged = gates.judge_variant(gates.variant_gate(spec, kind), figures)
        judged.write(measurement.path)
        for name in ("accuracy", "accuracy_loss", "bytes", "latency_ms_1", "latency_ms_500"):
            measurement.log_metric(name, getattr(judged, name))
        lineage.seal(measurement, parents=[variant, test, evaluation], kind=kind)
        step.variant(judged)
        step.record(f"variant-{kind}", judged)
