"""Bodies of the gateway's HTTP API, for operators, pipelines and enrollment. Times are in seconds since the epoch."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field

from fededge.eligibility import Conditions
from fededge.protocol.fields import (
    Base64,
    Bytes,
    Count,
    Digest,
    Facts,
    Id,
    Name,
    Said,
    Seconds,
    Text,
    Trace,
    Url,
)
from fededge.protocol.messages import Dataset, Kind
from fededge.protocol.releases import ReleaseInfo, Running

Item = TypeVar("Item")
ClientKind = Literal["site", "device", "relay"]
Scope = Literal["reader", "operator", "admin"]
"""What a token allows: to look; to enroll clients and run rounds too; and to make tenants, tokens and triggers too."""


class Problem(Said):
    """Why a request was refused: the body of every answer of 400 on.

    Attributes:
        reason: a constant, such as FORBIDDEN, for programs to read.
        message: what was wrong, and what to do.
    """

    reason: Name
    message: Annotated[str, Field(max_length=2000)]


class Page(Said, Generic[Item]):
    """Some of a list; `next`: what to give as `after` for those that follow, None at its end."""

    items: list[Item]
    next: str | None = None


class Enrollment(Said):
    """Client to gateway, POST /v1/enroll: take me in.

    Attributes:
        public_key: Ed25519, the 32 raw bytes in base64.
        signature: base64, over `proofs.enrollment_bytes`.
    """

    token: Annotated[str, Field(min_length=16, max_length=200)]
    public_key: Base64
    signature: Base64


class Enrolled(Said):
    """Who the client is from now on."""

    tenant: Name
    client: Name
    kind: ClientKind
    region: Name | None = None


class EnrollmentRequest(Said):
    """Operator to gateway, POST /v1/enrollments: make one-time tokens.

    Attributes:
        client: the new client's id; None: made up, and needed where `count` is more than 1.
        attributes: what operators say of it, such as a building.
        count: of tokens, for bulk enrollment.
        expires_seconds: for how long a token is good.
    """

    client: Name | None = None
    kind: ClientKind = "site"
    device_class: Name | None = None
    region: Name | None = None
    attributes: Facts = {}
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    expires_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] = 86_400.0


class EnrollmentToken(Said):
    """A one-time token: shown once, kept as a digest."""

    token: str
    client: Name
    expires: float


class ClientInfo(Said):
    """What the registry holds of a client.

    Attributes:
        state: `revoked` clients are never let in again.
        key_id: digest of its public key.
        connected: whether it has a session on a live gateway.
        rounds: in which its update counted; `last_round`: when the last one was.
        speed: training examples a second, measured over its last rounds; None before the first.
        running: what it said that it runs, by task.
    """

    client: Name
    kind: ClientKind
    state: Literal["active", "revoked"]
    device_class: Name | None = None
    region: Name | None = None
    attributes: Facts = {}
    capabilities: Facts = {}
    conditions: Facts = {}
    datasets: list[Dataset] = []
    software: str = ""
    key_id: Digest
    enrolled: float
    connected: bool
    last_seen: float | None = None
    rounds: Count = 0
    last_round: float | None = None
    speed: float | None = None
    running: list[Running] = []


class ClientChange(Said):
    """Operator to gateway, PATCH /v1/clients/CLIENT: what is said of a client; an attribute of None is removed."""

    region: Name | None = None
    device_class: Name | None = None
    attributes: Annotated[dict[Name, Annotated[str, Field(max_length=200)] | None], Field(max_length=64)] = {}


class BlobOffer(Said):
    """Pipeline to gateway, POST /v1/blobs: I have these bytes to store."""

    digest: Digest
    bytes: Bytes


class BlobPlace(Said):
    """Where to PUT them, or that they are there (`url` is then None)."""

    url: Url | None = None
    offset: Bytes = 0
    resumable: bool = False


class SelectionRequest(Said):
    """Pipeline to gateway, POST /v1/selections: choose a cohort from those that are there and may take part.

    Attributes:
        dataset: that clients must hold; `framework`: that they must run; `schema_digest`: of their examples.
        policy: by its name; see fededge.fleet.selection.
        conditions: that clients must meet by what they said last.
        size: of the cohort, over-selection included.
        weights: of a combination's policies, by name.
    """

    task: Name
    dataset: Name
    framework: Name
    schema_digest: Digest
    policy: str = "uniform"
    weights: Annotated[dict[Name, float], Field(max_length=16)] = {}
    conditions: Conditions = Conditions()
    size: Annotated[int, Field(ge=1, le=1_000_000)]
    seed: Count
    number: Count


class SelectionResult(Said):
    """Who takes part.

    Attributes:
        cohort: sorted.
        available: how many were there to be chosen from.
        clients: what is known of each, in the same order; None for a large cohort: look them up.
    """

    cohort: list[Name]
    available: Count
    clients: list[ClientInfo] | None = None


class LookupRequest(Said):
    """Pipeline to gateway, POST /v1/lookups: what is known of these clients, by their ids."""

    clients: Annotated[list[Name], Field(max_length=1000)]


class RoundRequest(Said):
    """Pipeline to gateway, PUT /v1/rounds/ROUND: open a round, or learn how one of this id stands.

    Attributes:
        order: envelope of the signed Order; what the gateway needs of it stands here again.
        goal: reports that end the round early; None: all of the cohort.
        seconds: until its deadline, from when the gateway takes it.
        cohort: ids.
        shares: of a client's examples to learn from, where it is less than all of them.
        update_bytes: the one size that an update of this model has; None: none is expected.
        trace: that the request is part of; the header `traceparent` says the same.
    """

    task: Name
    kind: Kind
    number: Count
    dataset: Name
    order: Annotated[str, Field(max_length=32_768)]
    plan: Digest
    weights: Digest
    cohort: Annotated[list[Name], Field(min_length=1, max_length=1_000_000)]
    shares: dict[Name, Annotated[float, Field(gt=0, le=1)]] = {}
    goal: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0, le=366 * 86_400)]
    update_bytes: Bytes | None = None
    trace: Trace | None = None


class RoundStatus(Said):
    """How a round stands.

    Attributes:
        state: `open`; `closed` once its goal, its deadline or its coordinator ended it.
        outcome: that the coordinator told: committed or failed, and why.
        reported, failed, waiting: clients.
        failures: reason by client.
        bytes_down, bytes_up: of plans, weights and updates that clients fetched and sent.
        client_seconds: that clients said they worked.
    """

    round: Id
    task: Name
    kind: Kind
    number: Count
    state: Literal["open", "closed"]
    outcome: Literal["committed", "failed"] | None = None
    reason: Text = ""
    cohort: list[Name]
    goal: Count
    reported: Count
    failed: Count
    waiting: Count
    failures: dict[Name, Text] = {}
    opened: float
    deadline: float
    closed: float | None = None
    bytes_down: Bytes = 0
    bytes_up: Bytes = 0
    client_seconds: Seconds = 0.0


class Report(Said):
    """What a client reported, in the order of arrival: exactly one of update, counts, ranges and failure.

    Attributes:
        ordinal: from 1, without gaps within a round.
        update: to fetch.
    """

    ordinal: Count
    client: Name
    update: Digest | None = None
    url: Url | None = None
    counts: dict[str, float] | None = None
    ranges: dict[str, Any] | None = None
    failure: Text | None = None
    seconds: Seconds = 0.0


class Reports(Said):
    """Reports after an ordinal.

    Attributes:
        open: whether more may follow.
        status: where none may: how the round stands.
    """

    items: list[Report]
    open: bool
    status: RoundStatus | None = None


class CloseRequest(Said):
    """Pipeline to gateway, POST /v1/rounds/ROUND/close: no report is waited for any more, or what came of the round.

    Attributes:
        outcome: None: it will be told in another request; until then the round is closed without one.
        losses: of a committed round of training: the mean loss of each client whose update counts.
    """

    outcome: Literal["committed", "failed"] | None = None
    reason: Text = ""
    losses: dict[Name, float] = {}


class Accepted(Said):
    """The request was carried out."""

    done: bool = True


class QueueItem(Said):
    """A client's part in a round, as the task queue holds it.

    Attributes:
        state: published, sent, accepted, then reported, declined, failed, late, canceled, or `aside` after the last try.
        attempts: how often it was sent; `next_try`: when it is sent again.
    """

    assignment: Id
    round: Id
    client: Name
    state: str
    attempts: Count
    next_try: float | None = None
    message: Text = ""


class OperatorRequest(Said):
    """POST /v1/tokens: make a token of a program or person."""

    name: Name
    scope: Scope
    expires_seconds: Annotated[float, Field(gt=0, le=366 * 86_400)] | None = None


class Operator(Said):
    """A token without its secret."""

    id: Id
    tenant: Name
    name: Name
    scope: Scope
    created: float
    expires: float | None = None
    last_used: float | None = None
    revoked: bool = False


class OperatorToken(Operator):
    """A new token with its secret: shown once, kept as a digest."""

    token: str


class Caller(Said):
    """Who sends this request, GET /v1/caller: what its token stands for."""

    tenant: Name
    name: Annotated[str, Field(max_length=200)]
    scope: Scope


class Tenant(Said):
    """A team: it sees its own clients, rounds, tokens and triggers, and no other's; None is no limit.

    Attributes:
        clients: most that may be enrolled; `open_rounds`: most at a time; `bytes`: most that it may have stored.
    """

    name: Name
    clients: Count | None = None
    open_rounds: Count | None = None
    bytes: Bytes | None = None


class TriggerRequest(Said):
    """PUT /v1/triggers/NAME: start a pipeline run when something is so.

    Attributes:
        when: `cron` (five fields, UTC), `interval`, `examples` (new ones at clients), `blobs` (new reports), `drift` (of
            an evaluation) or `hand`.
        cron, every_seconds, count, metric, change: what each of these needs.
        dataset: whose examples, or task: whose evaluation.
        ends: no start after it.
        task: as canonical JSON, what to run; `target`: local or kubeflow.
    """

    when: Literal["cron", "interval", "examples", "blobs", "drift", "hand"]
    cron: Annotated[str, Field(max_length=100)] | None = None
    every_seconds: Annotated[float, Field(ge=1, le=366 * 86_400)] | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    metric: Name | None = None
    change: Annotated[float, Field(gt=0)] | None = None
    dataset: Name | None = None
    ends: float | None = None
    target: Literal["local", "kubeflow"] = "local"
    task: Annotated[str, Field(max_length=1 << 20)]
    enabled: bool = True


class TriggerInfo(TriggerRequest):
    """A trigger, and what came of it: `state` is idle, due or running; `run`: the last that it started."""

    name: Name
    state: str
    run: str | None = None
    last_start: float | None = None
    next_start: float | None = None
    message: Text = ""


class AuditEntry(Said):
    """One line of the audit log, hash-chained: `digest` is over the line before it and this one."""

    number: Count
    at: float
    tenant: Name | None = None
    actor: Annotated[str, Field(max_length=200)]
    action: Name
    subject: Annotated[str, Field(max_length=200)]
    details: dict[str, Any] = {}
    digest: Digest


ANSWERS: dict[str, type[Said]] = {
    "Problem": Problem,
    "Enrolled": Enrolled,
    "BlobPlace": BlobPlace,
    "SelectionResult": SelectionResult,
    "RoundStatus": RoundStatus,
    "Reports": Reports,
    "ClientInfo": ClientInfo,
    "QueueItem": QueueItem,
    "Operator": Operator,
    "OperatorToken": OperatorToken,
    "Caller": Caller,
    "Tenant": Tenant,
    "TriggerInfo": TriggerInfo,
    "ReleaseInfo": ReleaseInfo,
    "AuditEntry": AuditEntry,
    "Accepted": Accepted,
}
"""What the API answers with, by the names in its OpenAPI document."""
