"""Build one variant of a model."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def build_variant(
    task: str,
    run: str,
    kind: str,
    state: Input[Model],
    ranges: Input[Artifact],
    variant: Output[Model],
) -> None:
    """Convert the global model to a LiteRT file of one kind.

    int8 is calibrated with ranges that clients measured and that were merged over many of them: no example
    is needed. The same inputs give the same bytes.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        kind: float32, float16, dynamic-int8 or int8.
        state: the global model's weights.
        ranges: calibration ranges; read for int8 only.
        variant: the LiteRT file; metadata kind, digest, parents, round.
    """
    from fededge import lineage, storage
    from fededge.delivery.gates import variant_gate
    from fededge.delivery.variants import conversion
    from fededge.documents import CalibrationRanges
    from fededge.learning.frameworks.keras.models import activations, inference_model
    from fededge.learning.state import load
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step(f"build_variant-{kind}"):
        parents = [state, ranges] if kind == conversion.CALIBRATED else [state]
        lineage.verify(*parents)
        variant_gate(spec, kind)
        measured = CalibrationRanges.read(ranges.path) if ranges in parents else None
        model = inference_model(spec.model, load(state.path).weights)
        storage.write(variant.path, conversion.build(model, kind, activations(model), measured))
        lineage.seal(variant, parents=parents, round=int(state.metadata["round"]), kind=kind)
