"""The HTTP API of operators and pipelines, and of clients that enroll: every operation, in one table."""

from typing import Literal

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, enrollment, operators, releases, selection, triggering
from fededge.fleet.gateway import coordinators
from fededge.fleet.gateway.operations import Call, Listing, Operation
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.pages import LARGEST
from fededge.protocol import (
    Accepted,
    AuditEntry,
    BlobOffer,
    BlobPlace,
    Caller,
    ClientChange,
    ClientInfo,
    CloseRequest,
    Enrolled,
    Enrollment,
    EnrollmentRequest,
    EnrollmentToken,
    LookupRequest,
    Operator,
    OperatorRequest,
    OperatorToken,
    Page,
    QueueItem,
    ReleaseInfo,
    ReleaseRequest,
    Reports,
    RoundRequest,
    RoundStatus,
    SelectionRequest,
    SelectionResult,
    Tenant,
    TriggerInfo,
    TriggerRequest,
)
from fededge.protocol.fields import Count, Name


class Clients(Listing):
    """Query of the list of clients."""

    dataset: Name | None = None
    region: Name | None = None
    connected: bool | None = None
    state: Literal["active", "revoked"] | None = None


class Rounds(Listing):
    """Query of the list of rounds."""

    task: Name | None = None
    state: Literal["open", "closed"] | None = None


class Lines(Listing):
    """Query of the audit log: lines after the one of number `after`, at most `limit`."""

    after: Count = 0  # type: ignore[assignment]


def _show_caller(registry: Registry, call: Call) -> Caller:
    return Caller(tenant=call.tenant, name=call.actor.name, scope=call.actor.scope)


def _enroll(registry: Registry, call: Call) -> Enrolled:
    return enrollment.enroll(registry, call.body, call.now)


def _make_enrollments(registry: Registry, call: Call) -> Page[EnrollmentToken]:
    made = enrollment.tokens(registry, call.tenant, call.body, call.actor.name, call.now)
    return Page[EnrollmentToken](items=made)


def _list_clients(registry: Registry, call: Call) -> Page[ClientInfo]:
    return enrollment.listing(registry, call.tenant, call.now, **call.query.model_dump())


def _show_client(registry: Registry, call: Call) -> ClientInfo:
    return enrollment.info(registry, call.tenant, call.path.client, call.now)


def _look_up(registry: Registry, call: Call) -> Page[ClientInfo]:
    return enrollment.named(registry, call.tenant, call.body.clients, call.now)


def _change_client(registry: Registry, call: Call) -> ClientInfo:
    return enrollment.change(registry, call.tenant, call.path.client, call.body, call.actor.name, call.now)


def _revoke_client(registry: Registry, call: Call) -> Accepted:
    enrollment.revoke(registry, call.tenant, call.path.client, call.actor.name, call.now)
    return Accepted()


def _select(registry: Registry, call: Call) -> SelectionResult:
    found = selection.select(registry, call.tenant, call.body, call.now)
    if len(found.cohort) > LARGEST:
        return found
    clients = enrollment.named(registry, call.tenant, found.cohort, call.now).items
    return found.model_copy(update={"clients": clients})


def _list_rounds(registry: Registry, call: Call) -> Page[RoundStatus]:
    return aggregation.rounds(registry, call.tenant, **call.query.model_dump())


def _show_round(registry: Registry, call: Call) -> RoundStatus:
    return aggregation.status(registry, call.tenant, call.path.round)


def _close_round(registry: Registry, call: Call) -> RoundStatus:
    return aggregation.close(registry, call.tenant, call.path.round, call.body, call.now, call.actor.name)


def _left(status: RoundStatus) -> bool:
    """Whether clients may still work for a round that nobody waits for."""
    return len(status.cohort) > status.reported + status.failed


def _show_queue(registry: Registry, call: Call) -> Page[QueueItem]:
    return aggregation.queue(registry, call.tenant, call.path.round, **call.query.model_dump())


def _list_releases(registry: Registry, call: Call) -> Page[ReleaseInfo]:
    return releases.listing(registry, call.tenant, **call.query.model_dump())


def _show_release(registry: Registry, call: Call) -> ReleaseInfo:
    return releases.get(registry, call.tenant, call.path.name)


def _put_release(registry: Registry, call: Call) -> ReleaseInfo:
    return releases.publish(registry, call.tenant, call.path.name, call.body, call.actor.name, call.now)


def _list_tokens(registry: Registry, call: Call) -> Page[Operator]:
    return operators.listing(registry, call.tenant, **call.query.model_dump())


def _make_token(registry: Registry, call: Call) -> OperatorToken:
    return operators.make(registry, call.tenant, call.body, call.actor.name, call.now)


def _revoke_token(registry: Registry, call: Call) -> Accepted:
    operators.revoke(registry, call.tenant, call.path.id, call.actor.name, call.now)
    return Accepted()


def _list_tenants(registry: Registry, call: Call) -> Page[Tenant]:
    if call.tenant == operators.FIRST_TENANT:
        return operators.list_tenants(registry, **call.query.model_dump())
    return Page[Tenant](items=[operators.get_tenant(registry, call.tenant)])


def _show_tenant(registry: Registry, call: Call) -> Tenant:
    if call.tenant not in (call.path.name, operators.FIRST_TENANT):
        raise GatewayError(f"no tenant {call.path.name}: list them", "NO_TENANT", 404)
    return operators.get_tenant(registry, call.path.name)


def _put_tenant(registry: Registry, call: Call) -> Tenant:
    if call.tenant != operators.FIRST_TENANT:
        raise GatewayError(
            f"administrators of the tenant {operators.FIRST_TENANT} make tenants and set quotas: ask one",
            "FORBIDDEN",
            403,
        )
    if call.body.name != call.path.name:
        raise GatewayError(
            f"tenant {call.body.name} at the address of {call.path.name}: say one of them", "MALFORMED", 400
        )
    return operators.put_tenant(registry, call.body, call.actor.name, call.now)


def _show_audit(registry: Registry, call: Call) -> Page[AuditEntry]:
    return audit.listing(registry, call.tenant, **call.query.model_dump())


def _list_triggers(registry: Registry, call: Call) -> Page[TriggerInfo]:
    return triggering.listing(registry, call.tenant, **call.query.model_dump())


def _show_trigger(registry: Registry, call: Call) -> TriggerInfo:
    return triggering.get(registry, call.tenant, call.path.name)


def _put_trigger(registry: Registry, call: Call) -> TriggerInfo:
    return triggering.put(registry, call.tenant, call.path.name, call.body, call.actor.name, call.now)


def _delete_trigger(registry: Registry, call: Call) -> Accepted:
    triggering.delete(registry, call.tenant, call.path.name, call.actor.name, call.now)
    return Accepted()


def _fire_trigger(registry: Registry, call: Call) -> TriggerInfo:
    return triggering.fire(registry, call.tenant, call.path.name, call.actor.name, call.now)


CLIENT, ROUND, TRIGGER = "/v1/clients/{client}", "/v1/rounds/{round}", "/v1/triggers/{name}"
# fmt: off
OPERATIONS = (
    Operation("POST", "/v1/enroll", "Take a client in", None, Enrolled, _enroll, Enrollment, status=201),
    Operation("GET", "/v1/caller", "Show whose token is sent", "reader", Caller, _show_caller),
    Operation("POST", "/v1/enrollments", "Make one-time tokens of enrollment", "operator", Page[EnrollmentToken],
              _make_enrollments, EnrollmentRequest, status=201),
    Operation("GET", "/v1/clients", "List clients", "reader", Page[ClientInfo], _list_clients, query=Clients),
    Operation("GET", CLIENT, "Show a client", "reader", ClientInfo, _show_client),
    Operation("PATCH", CLIENT, "Change what is said of a client", "operator", ClientInfo, _change_client,
              ClientChange),
    Operation("POST", f"{CLIENT}/revoke", "Never let a client in again", "operator", Accepted, _revoke_client,
              wakes=lambda answer: True),
    Operation("POST", "/v1/selections", "Choose a cohort", "operator", SelectionResult, _select, SelectionRequest),
    Operation("POST", "/v1/lookups", "Show the clients of these ids", "reader", Page[ClientInfo], _look_up,
              LookupRequest),
    Operation("POST", "/v1/blobs", "Ask where to send a plan or weights", "operator", BlobPlace,
              coordinators.offer_blob, BlobOffer),
    Operation("GET", "/v1/rounds", "List rounds", "reader", Page[RoundStatus], _list_rounds, query=Rounds),
    Operation("PUT", ROUND, "Open a round, or show it", "operator", RoundStatus, coordinators.open_round,
              RoundRequest, wakes=lambda status: status.state == "open"),
    Operation("GET", ROUND, "Show a round", "reader", RoundStatus, _show_round),
    Operation("GET", f"{ROUND}/reports", "Wait for reports", "operator", Reports, coordinators.wait_for_reports,
              query=coordinators.Wait),
    Operation("POST", f"{ROUND}/close", "End a round, with its outcome", "operator", RoundStatus, _close_round,
              CloseRequest, wakes=_left),
    Operation("GET", f"{ROUND}/queue", "Show each client's part in a round", "reader", Page[QueueItem], _show_queue,
              query=Listing),
    Operation("GET", "/v1/releases", "List releases", "reader", Page[ReleaseInfo], _list_releases, query=Listing),
    Operation("GET", "/v1/releases/{name}", "Show the release of a task", "reader", ReleaseInfo, _show_release),
    Operation("PUT", "/v1/releases/{name}", "Release models to devices", "operator", ReleaseInfo, _put_release,
              ReleaseRequest),
    Operation("GET", "/v1/tokens", "List tokens", "admin", Page[Operator], _list_tokens, query=Listing),
    Operation("POST", "/v1/tokens", "Make a token", "admin", OperatorToken, _make_token, OperatorRequest,
              status=201),
    Operation("DELETE", "/v1/tokens/{id}", "Make a token worthless", "admin", Accepted, _revoke_token),
    Operation("GET", "/v1/tenants", "List tenants", "admin", Page[Tenant], _list_tenants, query=Listing),
    Operation("GET", "/v1/tenants/{name}", "Show a tenant", "admin", Tenant, _show_tenant),
    Operation("PUT", "/v1/tenants/{name}", "Make a tenant, or set its quotas", "admin", Tenant, _put_tenant,
              Tenant),
    Operation("GET", "/v1/audit", "Read the audit log", "admin", Page[AuditEntry], _show_audit, query=Lines),
    Operation("GET", "/v1/triggers", "List triggers", "reader", Page[TriggerInfo], _list_triggers, query=Listing),
    Operation("GET", TRIGGER, "Show a trigger", "reader", TriggerInfo, _show_trigger),
    Operation("PUT", TRIGGER, "Make a trigger, or change it", "operator", TriggerInfo, _put_trigger,
              TriggerRequest),
    Operation("DELETE", TRIGGER, "Take a trigger away", "operator", Accepted, _delete_trigger),
    Operation("POST", f"{TRIGGER}/fire", "Start a trigger's run now", "operator", TriggerInfo, _fire_trigger),
)
# fmt: on
"""The API. What it does not list is not there, apart from /v1/connect, objects, and what is for machines."""
