"""Make a task's first global weights and the plan that its clients execute."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def initialize_model(
    task: str, run: str, population: Input[Artifact], plan: Output[Artifact], state: Output[Model]
) -> None:
    """Make the state before the first round, and export the client work as a plan.

    The same task gives the same weights; where it names weights to start from, those.

    Args:
        task: the task as canonical JSON, or of it what the step depends on.
        run: id of the pipeline run; "" where FEDEDGE_RUN tells it, so that Kubeflow may reuse the step.
        population: says what an example looks like.
        plan: what clients execute (for Keras a SavedModel that plain TensorFlow runs, and with data.source fleet a
            LiteRT file for devices without it), and plan.json.
        state: safetensors file with the initial global weights.
    """
    from pathlib import Path

    from fededge import lineage
    from fededge.delivery import registry
    from fededge.documents import Population
    from fededge.learning import warm_start
    from fededge.learning.frameworks import add_litert, model_spec
    from fededge.learning.state import State
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec, described=False).step("initialize_model") as step:
        lineage.verify(population)
        model = model_spec(spec.model, Population.read(population.path).example, spec.seed)
        weights = model.initial_weights()
        if given := spec.model.weights:
            registered = given.startswith("models:/")
            held = (
                warm_start.parse(registry.state_of(given), given)
                if registered
                else warm_start.read(given, model)
            )
            weights = warm_start.start_from(held, weights, given)
        State(spec.identity, round=0, weights=weights, server=[]).save(state.path)
        lineage.seal(state, parents=[population], round=0, **step.made)
        model.export_plan(spec.learning.client, spec.identity, Path(plan.path))
        if not spec.simulated or spec.learning.functions:
            add_litert(model, spec.learning.client, Path(plan.path))
        lineage.seal(plan, parents=[population])
