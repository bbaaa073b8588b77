"""Decide whether a trained model may go on."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def gate_model(
    task: str,
    run: str,
    evaluation: Input[Metrics],
    state: Input[Model],
    centralized: float,
    decision: Output[Artifact],
    figures: Output[Metrics],
    trained: Input[Metrics] = None,
    alone: Input[Metrics] = None,
) -> str:
    """Compare a trained model with the task's gate, centralized training and the present champion.

    Reads only. register_model takes the decision again where the champion has changed by then.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        evaluation: of the federated model on held-out examples.
        state: the evaluated model.
        centralized: the same model after training on all examples in one place, in the gate's metric; -1e300 where
            the task compares with nothing.
        decision: the gate-decision document.
        figures: the scores that were compared, for the Kubeflow UI.
        trained: the evaluation after training on all examples, where the task asks for it: MLflow is told of it here
            if Kubeflow reused that step; `alone` likewise.
        alone: the scores of the clients alone.

    Returns:
        `pass`, `fail`, or `kept` where it passes and the champion stays.
    """
    from fededge import lineage, weights
    from fededge.delivery import gates, registry
    from fededge.documents import Alone, Evaluation
    from fededge.learning import state as states
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("gate_model") as step:
        lineage.verify(evaluation, state, *filter(None, (trained, alone)))
        if trained and step.reused(trained):
            step.centralized(Evaluation.read(trained.path))
        if alone and step.reused(alone):
            step.alone(Alone.read(alone.path), spec.learning.rounds)
        reached = Evaluation.read(evaluation.path)
        judged = gates.judge_model(
            spec.gate,
            reached,
            None if centralized <= gates.NOT_COMPARED else centralized,
            registry.rival(spec.name),
            weights.digest_of(states.load(state.path).weights),
        )
        judged.write(decision.path)
        lineage.seal(decision, parents=[evaluation, state], decision=judged.decision)
        for name, value in judged.figures.items():
            figures.log_metric(name, value)
        step.gate(judged, step=reached.round)
        step.record("gate", judged)
        for reason in judged.reasons:
            print(f"fededge: {reason}")
    return judged.decision
