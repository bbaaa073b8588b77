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
) -> str:
    """Compare a trained model with the task's gate, centralized training and the present champion.

    Reads only. register_model takes the decision again where the champion has changed by then.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        evaluation: of the federated model on held-out examples.
        state: the evaluated model.
        centralized: score of the same model after training on all examples in one place; below 0 where the
            task compares with nothing.
        decision: the gate-decision document.

    Returns:
        `pass` or `fail`.
    """
    from fededge import lineage, weights
    from fededge.delivery import gates, registry
    from fededge.documents import Evaluation
    from fededge.learning import state as states
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("gate_model") as step:
        lineage.verify(evaluation, state)
        champion = registry.champion(spec.name)
        reached = Evaluation.read(evaluation.path)
        judged = gates.judge_model(
            spec.gate,
            reached.metric,
            reached.score,
            None if centralized < 0 else centralized,
            champion.champion if champion else None,
            weights.digest_of(states.load(state.path).weights),
        )
        judged.write(decision.path)
        lineage.seal(decision, parents=[evaluation, state], decision=judged.decision)
        step.gate(judged, step=reached.round)
        step.record("gate", judged)
        for reason in judged.reasons:
            print(f"fededge: {reason}")
    return judged.decision
