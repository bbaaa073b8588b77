"""Select from whom the cohorts of the coming rounds come, and how."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def select_cohort(
    task: str,
    run: str,
    population: Input[Artifact],
    selection: Output[Artifact],
) -> None:
    """Decide the pool, the policy and the seed by which each round's cohort is selected.

    The cohort itself is chosen when its round begins, from the clients that are there. Depends only on
    the task and the population: a retry decides the same.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        population: the clients and how many examples they hold.
        selection: the selection document.
    """
    from fededge import lineage
    from fededge.documents import Population
    from fededge.fleet.selection import select
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("select_cohort"):
        lineage.verify(population)
        chosen = select(spec.learning.cohort, spec.seed, Population.read(population.path))
        chosen.write(selection.path)
        lineage.seal(selection, parents=[population])
