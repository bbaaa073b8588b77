"""One interface, two engines: where a round's client work runs is all that differs.

**simulation** runs whole rounds inside TFF, for research and many clients; models of other frameworks than Keras train
in this process, and TFF aggregates. **federated** runs the
clients wherever they are and lets TFF aggregate the updates they hand in. For the same seed and
cohort both give the same weights.
"""

from collections.abc import Callable
from pathlib import Path

from fededge.documents import Plan
from fededge.learning.interfaces import ClientRuntime, Engine
from fededge.task import Learning, Model, Operation


def open_runtime(engine: str, plan: Path, clients: Path) -> ClientRuntime:
    """Where simulated clients train and evaluate: as processes of their own, or for `simulation` inside this one.

    Args:
        engine: as in the task.
        plan: folder of the exported plan.
        clients: folder with one folder for each client.
    """
    if engine == "simulation":
        from fededge.learning.runtimes.in_process import InProcessClients

        return InProcessClients(plan, clients)
    from fededge.learning.runtimes.local import LocalSites

    return LocalSites(plan, clients)


def open_engine(
    model: Model,
    learning: Learning,
    operation: Operation,
    seed: int,
    plan: Path,
    clients: Path,
    runtime: ClientRuntime | None = None,
    on_report: Callable[[str, str | None], None] = lambda client, failure: None,
) -> Engine:
    """The engine that `learning` names; use it with `with`.

    Args:
        model: what is trained.
        learning: the algorithm.
        operation: its deadlines and quorum.
        seed: of the task.
        plan: folder of the exported plan.
        clients: folder with one folder for each simulated client.
        runtime: reaches clients that are elsewhere; None: they are the simulated ones.
        on_report: told of each report as it arrives: client, and why it does not count or None.
    """
    document = Plan.read(plan / "plan.json")
    if learning.engine == "simulation" and document.framework == "keras":
        from fededge.learning.tff.simulation import SimulationEngine

        return SimulationEngine(model, learning, operation, seed, document, clients)
    from fededge.learning.federated import FederatedEngine

    runtime = runtime or open_runtime(learning.engine, plan, clients)
    return FederatedEngine(document, learning, operation, seed, runtime, on_report)
