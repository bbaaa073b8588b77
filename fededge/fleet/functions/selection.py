"""Selection: who of those that are there takes part in a round."""

from sqlalchemy import Connection, func
from sqlalchemy import select as query

from fededge.errors import GatewayError, shown
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import datasets, gateways
from fededge.fleet.selection.uniform import uniform
from fededge.fleet.selection.window import start, width
from fededge.protocol import SelectionRequest, SelectionResult


def select(registry: Registry, tenant: str, request: SelectionRequest, now: float) -> SelectionResult:
    """The cohort of a round.

    `available` is how many clients it was chosen from: all that are there and may take part, or, of many, the window's.

    Raises:
        GatewayError: no such policy.
    """
    if request.policy != "uniform":
        raise GatewayError(f"no selection policy {shown(request.policy)}: use uniform", "NO_POLICY", 400)
    found = registry.read(lambda connection: _window(connection, tenant, request, now))
    found.sort(key=lambda client: (uniform(request.seed, request.number, client), client))
    return SelectionResult(cohort=sorted(found[: request.size]), available=len(found))


def _window(connection: Connection, tenant: str, request: SelectionRequest, now: float) -> list[str]:
    live = list(connection.execute(query(gateways.c.id).where(gateways.c.expires > now)).scalars())
    eligible = query(datasets.c.client).where(
        datasets.c.tenant == tenant,
        datasets.c.dataset == request.dataset,
        datasets.c.gateway.is_not(None),
        datasets.c.gateway.in_(live),
        datasets.c.schema_digest == request.schema_digest,
        # LIKE would not mind capitals in SQLite.
        func.replace(datasets.c.frameworks, f" {request.framework} ", "") != datasets.c.frameworks,
    )
    begin, most = start(request.seed, request.number), width(request.size)
    found: list[str] = []
    for part in (datasets.c.random_key >= begin, datasets.c.random_key < begin):
        rows = eligible.where(part).order_by(datasets.c.random_key).limit(most - len(found))
        found += connection.execute(rows).scalars()
    return found
