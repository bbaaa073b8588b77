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
        measurement: JSON with the figures, `passed` and `reasons`.
    """
    import json
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.delivery import gates
    from fededge.delivery.variants import measurement as measuring
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    kind = variant.metadata["kind"]
    with TrackedRun.join(run, spec).step(f"measure_variant-{kind}") as step:
        lineage.verify(variant, test, evaluation)
        reference = float(json.loads(Path(evaluation.path).read_bytes())["accuracy"])
        x, y = measuring.held_out(Path(test.path))
        figures = measuring.measure(storage.read(variant.path), kind, x, y, reference)
        outcome = gates.judge_variant(gates.variant_gate(spec, kind), figures)
        figures |= {"passed": outcome.passed, "reasons": outcome.reasons}
        Path(measurement.path).write_text(json.dumps(figures))
        for name in ("accuracy", "accuracy_loss", "bytes", "latency_ms_1", "latency_ms_500"):
            measurement.log_metric(name, figures[name])
        lineage.seal(measurement, parents=[variant, test, evaluation], kind=kind)
        step.record(f"variant-{kind}", figures)
