"""Decide whether a trained model may go on."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Metrics, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def gate_model(
    task: str,
    run: str,
    evaluation: Input[Metrics],
    centralized: Input[Metrics],
    decision: Output[Artifact],
) -> str:
    """Compare a trained model with the task's gate, centralized training and the present champion.

    Reads only; a retry decides the same unless another run became champion meanwhile.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        evaluation: of the federated model on held-out data.
        centralized: the same evaluation after training on all data in one place.
        decision: JSON with `decision`, `reasons` and the accuracies compared.

    Returns:
        `pass` or `fail`.
    """
    import json
    from pathlib import Path

    from fededge import lineage
    from fededge.delivery import gates, registry
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("gate_model") as step:
        lineage.verify(evaluation, centralized)
        reached, alternative = (
            float(json.loads(Path(found.path).read_bytes())["accuracy"])
            for found in (evaluation, centralized)
        )
        champion = registry.champion(spec.name)
        best = champion.accuracy if champion else None
        outcome = gates.judge_model(spec.gate, reached, alternative, best)
        content = {
            "decision": outcome.word,
            "reasons": outcome.reasons,
            "accuracy": reached,
            "centralized": alternative,
            "champion": {"version": champion.version, "accuracy": best} if champion else None,
        }
        Path(decision.path).write_text(json.dumps(content))
        lineage.seal(decision, parents=[evaluation, centralized], decision=outcome.word)
        step.record("gate", content)
    return outcome.word
