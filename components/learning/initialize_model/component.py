"""Make a task's first global weights and the plan that its clients execute."""

from kfp import dsl
from kfp.dsl import Artifact, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def initialize_model(task: str, run: str, plan: Output[Artifact], state: Output[Model]) -> None:
    """Make the state before the first round, and export the client work as a plan.

    The same task gives the same weights.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        plan: SavedModel that a client runs with plain TensorFlow, and plan.json.
        state: safetensors file with the initial global weights.
    """
    from pathlib import Path

    from fededge import lineage
    from fededge.learning.frameworks.keras import models
    from fededge.learning.state import State
    from fededge.learning.tff import plan as engine_plan
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("initialize_model"):
        State(task=spec.digest, round=0, weights=models.initial_weights(spec), server=[]).save(state.path)
        lineage.seal(state, round=0)
        engine_plan.export(spec, Path(plan.path))
        lineage.seal(plan)
