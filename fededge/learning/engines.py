"""One interface, two engines: where a round's client work runs is all that differs.

**simulation** runs whole rounds inside TFF, for research and many clients. **federated** runs the
clients wherever they are and lets TFF aggregate the updates they hand in. For the same seed and
cohort both give the same weights.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from fededge.documents import ClientCounts
from fededge.learning.frameworks import model_spec, open_client
from fededge.learning.interfaces import ClientRuntime, Engine
from fededge.task import Learning, Model, Operation
from fededge.weights import shapes


def open_runtime(engine: str, plan: Path, clients: Path) -> ClientRuntime:
    """Where clients train and evaluate: as processes of their own, or for `simulation` inside this one.

    Args:
        engine: as in the task.
        plan: folder of the exported plan.
        clients: folder with one folder for each client.
    """
    if engine == "simulation":
        from fededge.learning.runtimes.in_process import InProcessClients

        return InProcessClients(clients, lambda folder: open_client(plan, folder))
    from fededge.learning.runtimes.local import LocalSites

    return LocalSites(plan, clients)


def open_engine(
    model: Model,
    learning: Learning,
    operation: Operation,
    seed: int,
    plan: Path,
    clients: Path,
    pool: Sequence[ClientCounts],
    on_report: Callable[[str, str | None], None] = lambda client, failure: None,
) -> Engine:
    """The engine that `learning` names; use it with `with`.

    Args:
        model: what is trained.
        learning: the algorithm.
        operation: its deadlines and quorum.
        seed: of the task.
        plan: folder of the exported plan.
        clients: folder with one folder for each client.
        pool: the clients that may take part, and how many examples each holds.
        on_report: told of each report as it arrives: client, and why it does not count or None.
    """
    examples = {client.id: client.train for client in pool}
    if learning.engine == "simulation":
        from fededge.learning.tff.simulation import SimulationEngine

        return SimulationEngine(model, learning, operation, seed, clients, examples)
    from fededge.learning.federated import FederatedEngine

    return FederatedEngine(
        shapes(model_spec(model).initial_weights(seed)),
        learning,
        operation,
        seed,
        open_runtime(learning.engine, plan, clients),
        examples,
        on_report,
    )
