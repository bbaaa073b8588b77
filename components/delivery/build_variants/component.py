"""Build the variants of a model."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def build_variants(
    task: str,
    run: str,
    state: Input[Model],
    ranges: Input[Artifact],
    variants: Output[Model],
) -> None:
    """Convert the global model to a LiteRT file of each kind that the task lists.

    int8 is calibrated with ranges that clients measured and that were merged over many of them: no example
    is needed. The same inputs give the same bytes.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        state: the global model's weights.
        ranges: calibration ranges; read for int8 only.
        variants: a folder with a LiteRT file for each kind, by its name; metadata kinds, digest, parents, round.
    """
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.delivery.variants import conversion
    from fededge.documents import CalibrationRanges
    from fededge.learning.frameworks.keras.models import activations, inference_model
    from fededge.learning.state import load
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    kinds = [variant.kind for variant in spec.variants]
    with TrackedRun.join(run, spec).step("build_variants"):
        parents = [state, ranges] if conversion.CALIBRATED in kinds else [state]
        lineage.verify(*parents)
        measured = CalibrationRanges.read(ranges.path) if ranges in parents else None
        model = inference_model(spec.model, load(state.path).weights)
        for kind in kinds:
            built = conversion.build(model, kind, activations(model), measured)
            storage.write(str(Path(variants.path) / kind), built)
            print(f"fededge: {kind} has {len(built):,} bytes", flush=True)
        lineage.seal(variants, parents=parents, round=int(state.metadata["round"]), kinds=kinds)
