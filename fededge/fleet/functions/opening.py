"""How a round is opened: what is checked, and the work that is published for each client of its cohort."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert, select

from fededge.errors import GatewayError, shown
from fededge.fleet.functions.blobs import needed
from fededge.fleet.functions.participation import note_asked
from fededge.fleet.functions.quotas import check_open_rounds
from fededge.fleet.functions.work import assignment_id, end, round_of
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import add, chunks, locked
from fededge.fleet.registry.tables import clients, rounds, work
from fededge.protocol import RoundRequest


def publish(
    connection: Connection, tenant: str, round: str, request: RoundRequest, now: float, actor: str
) -> None:
    """Open a round and publish its work, where there is none of this id.

    Raises:
        GatewayError: see model_update.open_round.
    """
    key = (rounds.c.tenant == tenant, rounds.c.round == round)
    if connection.execute(select(rounds.c.round).where(*key)).one_or_none() is not None:
        return
    cohort = _checked(request)
    gateways, revoked = _hold(connection, tenant, cohort)
    check_open_rounds(connection, tenant)
    sizes = needed(connection, tenant, {request.plan, request.weights}, now)
    if not _write_round(connection, tenant, round, request, sizes, now):
        return  # another coordinator was faster
    _write_work(connection, tenant, round, request, gateways, now)
    if request.kind == "train":
        note_asked(connection, tenant, request, cohort)
    for client in revoked:
        end(connection, round_of(connection, tenant, round), client, "failed", now, "it was revoked")
    details = {"task": request.task, "kind": request.kind, "cohort": len(cohort), "plan": request.plan}
    audit.append(connection, tenant, actor, "round.open", round, details, now)


def _checked(request: RoundRequest) -> list[str]:
    """The cohort in order."""
    cohort = sorted(set(request.cohort))
    if len(cohort) < len(request.cohort):
        raise GatewayError("the cohort names a client twice: name each once", "COHORT", 400)
    if request.goal is not None and request.goal > len(cohort):
        raise GatewayError(
            f"goal {request.goal} is more than the cohort of {len(cohort)}: lower it", "COHORT", 400
        )
    return cohort


def _hold(
    connection: Connection, tenant: str, cohort: Sequence[str]
) -> tuple[Mapping[str, str | None], list[str]]:
    """On which gateway each client is, and who was revoked; they stay where they are until the transaction ends."""
    gateways: dict[str, str | None] = {}
    revoked = []
    for some in chunks(cohort):
        query = (
            select(clients.c.client, clients.c.gateway, clients.c.state)
            .where(clients.c.tenant == tenant, clients.c.client.in_(some))
            .order_by(clients.c.client)
        )
        for row in connection.execute(locked(query)):
            gateways[row.client] = row.gateway
            if row.state != "active":
                revoked.append(row.client)
    missing = sorted(set(cohort) - gateways.keys())
    if missing:
        raise GatewayError(
            f"client {shown(missing[0])} of the cohort is not enrolled ({len(missing)} are not): leave it out",
            "NO_CLIENT",
            400,
        )
    return gateways, revoked


def _write_round(
    connection: Connection,
    tenant: str,
    round: str,
    request: RoundRequest,
    sizes: Mapping[str, int],
    now: float,
) -> bool:
    """Whether it was not there."""
    row = {
        "tenant": tenant,
        "round": round,
        "task": request.task,
        "kind": request.kind,
        "number": request.number,
        "dataset": request.dataset,
        "envelope": request.order,
        "trace": request.trace,
        "plan": request.plan,
        "plan_bytes": sizes[request.plan],
        "weights": request.weights,
        "weights_bytes": sizes[request.weights],
        "update_bytes": request.update_bytes,
        "goal": request.goal or len(request.cohort),
        "opened": now,
        "deadline": now + request.seconds,
        "state": "open",
        "reason": "",
        "waiting": len(request.cohort),
    }
    return add(connection, rounds, row) == 1


def _write_work(
    connection: Connection,
    tenant: str,
    round: str,
    request: RoundRequest,
    gateways: Mapping[str, str | None],
    now: float,
) -> None:
    parts = [
        {
            "tenant": tenant,
            "round": round,
            "client": client,
            "assignment": assignment_id(tenant, round, client),
            "state": "published",
            "gateway": gateway,
            "next_try": now,
            "share": request.shares.get(client, 1.0),
            "message": "",
        }
        for client, gateway in gateways.items()
    ]
    connection.execute(insert(work), parts)
