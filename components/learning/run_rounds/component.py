"""Run the next federated rounds from a state."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def run_rounds(
    task: str,
    run: str,
    data: Input[Dataset],
    plan: Input[Artifact],
    state: Input[Model],
    cohorts: Input[Artifact],
    next_state: Output[Model],
) -> None:
    """Run one federated round after another, and hand on the state after the last.

    Every committed round is saved in the blob store before it is reported: a retry goes on after it.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        data: one folder a client.
        plan: what clients execute.
        state: the state to start from.
        cohorts: JSON, client ids by round number.
        next_state: the state after the last round; metadata round, digest, parents.
    """
    import json
    from pathlib import Path

    from fededge import lineage, settings, storage
    from fededge.learning import rounds
    from fededge.learning import state as states
    from fededge.learning.engines import open_engine
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    chosen = {int(number): clients for number, clients in json.loads(Path(cohorts.path).read_text()).items()}
    first = f"{min(chosen):04d}"
    with TrackedRun.join(run, spec).step(f"run_rounds-{first}") as step:
        lineage.verify(data, plan, state, cohorts)
        done: list[rounds.Record] = []

        def report(record: rounds.Record) -> None:
            done.append(record)
            step.round(record)
            print(
                f"fededge: round {record['round']}/{spec.learning.rounds}: {len(record['reported'])} of "
                f"{len(record['cohort'])} clients, loss {record['loss']:.4f}, accuracy {record['accuracy']:.4f}, "
                f"{record['seconds']:.1f} s",
                flush=True,
            )

        checkpoint = storage.join(settings.storage(), "checkpoints", run, f"rounds-{first}.safetensors")
        with open_engine(spec, Path(data.path), Path(plan.path)) as engine:
            end = rounds.run_rounds(spec, engine, states.load(state.path), chosen, checkpoint, report)
        end.save(next_state.path)
        lineage.seal(next_state, parents=[state, data, plan, cohorts], round=end.round)
        step.record(f"rounds-{first}", done)
