"""Selection: who of those that are there takes part in a round."""

from sqlalchemy import Connection, Select, func
from sqlalchemy import select as query

from fededge.errors import GatewayError, TaskError
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import clients, datasets, gateways, participation
from fededge.fleet.selection import policy_of
from fededge.fleet.selection.policy import Candidate, Policy
from fededge.fleet.selection.window import start, width
from fededge.protocol import SelectionRequest, SelectionResult

WINDOWED = "uniform"
"""The policy that looks at no more than a window of clients; all others are given each that may take part."""


def select(registry: Registry, tenant: str, request: SelectionRequest, now: float) -> SelectionResult:
    """The cohort of a round.

    `available` is how many clients the policy chose from: all that are there and may take part, or, of many, a window's.

    Raises:
        GatewayError: no such policy, or a combination without weights.
    """
    policy = _policy(request)
    find = _window if request.policy == WINDOWED else _all
    pool = registry.read(lambda connection: find(connection, tenant, request, now))
    cohort = policy.choose(pool, request.size, request.seed, request.number)
    return SelectionResult(cohort=sorted(cohort), available=len(pool))


def _policy(request: SelectionRequest) -> Policy:
    if request.policy == "weighted" and not (request.weights and min(request.weights.values()) > 0):
        raise GatewayError(
            "the policy weighted needs weights above 0: name policies with them", "NO_POLICY", 400
        )
    try:
        return policy_of(request.policy, request.weights)
    except TaskError as error:
        raise GatewayError(str(error), "NO_POLICY", 400) from error


def _eligible(
    connection: Connection, tenant: str, request: SelectionRequest, now: float
) -> Select[tuple[str, int]]:
    """Id and training examples of those that are there and may take part."""
    live = list(connection.execute(query(gateways.c.id).where(gateways.c.expires > now)).scalars())
    return query(datasets.c.client, datasets.c.train).where(
        datasets.c.tenant == tenant,
        datasets.c.dataset == request.dataset,
        datasets.c.gateway.is_not(None),
        datasets.c.gateway.in_(live),
        datasets.c.schema_digest == request.schema_digest,
        # LIKE would not mind capitals in SQLite.
        func.replace(datasets.c.frameworks, f" {request.framework} ", "") != datasets.c.frameworks,
    )


def _window(connection: Connection, tenant: str, request: SelectionRequest, now: float) -> list[Candidate]:
    """As `fededge.fleet.selection.window`, found by an index."""
    eligible = _eligible(connection, tenant, request, now)
    begin, most = start(request.seed, request.number), width(request.size)
    found: list[Candidate] = []
    for part in (datasets.c.random_key >= begin, datasets.c.random_key < begin):
        rows = eligible.where(part).order_by(datasets.c.random_key).limit(most - len(found))
        found += [Candidate(id=row.client, train=row.train) for row in connection.execute(rows)]
    return found


def _all(connection: Connection, tenant: str, request: SelectionRequest, now: float) -> list[Candidate]:
    """All of them, with what is known of each."""
    rows = (
        _eligible(connection, tenant, request, now)
        .add_columns(clients.c.region, clients.c.speed, participation.c.asked, participation.c.loss)
        .join(clients, (clients.c.tenant == datasets.c.tenant) & (clients.c.client == datasets.c.client))
        .outerjoin(
            participation,
            (participation.c.tenant == datasets.c.tenant)
            & (participation.c.task == request.task)
            & (participation.c.client == datasets.c.client),
        )
    )
    return [
        Candidate(
            id=row.client,
            train=row.train,
            waited=max(0, request.number - (row.asked or 0)),
            region=row.region,
            loss=row.loss,
            speed=row.speed,
        )
        for row in connection.execute(rows)
    ]
