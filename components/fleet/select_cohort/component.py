"""Select from whom the cohorts of the coming rounds come, and how."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def select_cohort(
    task: str,
    compiled: str,
    run: str,
    population: Input[Artifact],
    selection: Output[Artifact],
) -> None:
    """Decide the pool, the policy and the seed by which each round's cohort is selected.

    The cohort itself is chosen when its round begins, from the clients that are there. Depends only on
    the task and the population: a retry decides the same. Where Kubeflow reused the steps before it, it is the first
    that refuses another task than the pipeline was compiled for, and it tells MLflow of the data.

    Args:
        task: the task as canonical JSON.
        compiled: the task that the pipeline was compiled for.
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
    spec.refuse_other(compiled)
    with TrackedRun.join(run, spec).step("select_cohort") as step:
        lineage.verify(population)
        clients = Population.read(population.path)
        if step.reused(population):
            step.data(clients, spec.data.source)
        chosen = select(spec.learning.cohort, spec.seed, clients)
        chosen.write(selection.path)
        lineage.seal(selection, parents=[population])
