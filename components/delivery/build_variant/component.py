"""Build one variant of a model."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def build_variant(
    task: str,
    run: str,
    kind: str,
    state: Input[Model],
    data: Input[Dataset],
    variant: Output[Model],
) -> None:
    """Convert the global model to a LiteRT file of one kind.

    int8 is calibrated with samples drawn from the training clients' own summaries. The same inputs
    give the same bytes.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        kind: float32, float16, dynamic-int8 or int8.
        state: the global model's weights.
        data: only its client summaries are read.
        variant: the LiteRT file; metadata kind, digest, parents, round.
    """
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.delivery.gates import variant_gate
    from fededge.delivery.variants import conversion as variants
    from fededge.learning.frameworks.keras.models import inference_model
    from fededge.learning.state import load
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step(f"build_variant-{kind}"):
        lineage.verify(state, data)
        variant_gate(spec, kind)
        samples = variants.representative_samples(Path(data.path), spec.seed)
        model = inference_model(spec, load(state.path).weights)
        storage.write(variant.path, variants.build(model, kind, samples))
        lineage.seal(variant, parents=[state, data], round=int(state.metadata["round"]), kind=kind)
