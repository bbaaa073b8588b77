"""Build the variants of a model."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def build_variants(
    task: str,
    run: str,
    population: Input[Artifact],
    state: Input[Model],
    ranges: Input[Artifact],
    variants: Output[Model],
    pyfunc: Output[Model],
) -> None:
    """Convert the global model to a LiteRT or ONNX file of each kind that the task lists and that can be made of it.

    int8 is calibrated with ranges that clients measured and that were merged over many of them: no example
    is needed. The same inputs give the same bytes.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        population: says what an example looks like.
        state: the global model's weights.
        ranges: calibration ranges, where clients measured them; read for int8 only.
        variants: a folder with a file for each kind, by its name; metadata kinds, digest, parents, round.
        pyfunc: the model as MLflow loads and serves it by itself; metadata kind (of the variant that answers), digest,
            parents.
    """
    from pathlib import Path

    from fededge import lineage, storage
    from fededge.delivery import pyfunc as models
    from fededge.delivery.variants import building
    from fededge.documents import CalibrationRanges, Population
    from fededge.learning.frameworks import model_spec
    from fededge.learning.state import load
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    wanted = [variant.kind for variant in spec.variants]
    with TrackedRun.join(run, spec).step("build_variants"):
        calibrated = "int8" in wanted and "digest" in ranges.metadata
        parents = [population, state, ranges] if calibrated else [population, state]
        lineage.verify(*parents)
        measured = CalibrationRanges.read(ranges.path) if calibrated else None
        schema = Population.read(population.path).example
        model = model_spec(spec.model, schema, spec.seed)
        built, refused = building.build(model, load(state.path).weights, schema, wanted, measured)
        for reason in dict.fromkeys(refused.values()):
            print(f"fededge: {reason}", flush=True)
        for kind, file in built.items():
            storage.write(str(Path(variants.path) / kind), file)
            print(f"fededge: {kind} has {len(file):,} bytes", flush=True)
        kinds = list(built)
        lineage.seal(variants, parents=parents, round=int(state.metadata["round"]), kinds=kinds)
        answers = models.save(Path(pyfunc.path), schema, Path(variants.path), kinds, spec.name)
        lineage.seal(pyfunc, parents=[population, variants], kind=answers)
