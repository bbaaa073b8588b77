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
    from fededge.learning.frameworks import model_spec
    from fededge.learning.state import State
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("initialize_model"):
        model = model_spec(spec.model)
        State(spec.identity, round=0, weights=model.initial_weights(spec.seed), server=[]).save(state.path)
        lineage.seal(state, round=0)
        model.export_plan(spec.learning.client, spec.identity, Path(plan.path))
        lineage.seal(plan)
