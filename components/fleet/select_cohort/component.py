"""Select the clients of the coming rounds."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def select_cohort(
    task: str,
    run: str,
    data: Input[Dataset],
    state: Input[Model],
    rounds: int,
    cohorts: Output[Artifact],
) -> None:
    """Select a cohort for each of the next rounds, by the task's policy.

    Depends only on the task's seed, the round numbers and the population: a retry selects the same.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        data: its population.json lists the clients.
        state: the rounds after the one in its metadata are selected for.
        rounds: how many; none beyond the task's last round.
        cohorts: JSON object, round number -> sorted list of client ids.
    """
    import json
    from pathlib import Path

    from fededge import lineage
    from fededge.fleet import selection
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    done = int(state.metadata["round"])
    with TrackedRun.join(run, spec).step(f"select_cohort-{done + 1:04d}"):
        lineage.verify(data, state)
        selected = selection.schedule(spec, done, int(rounds), selection.read_population(data.path))
        Path(cohorts.path).write_text(json.dumps(selected))
        lineage.seal(cohorts, parents=[data, state], round=done)
