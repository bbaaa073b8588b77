"""The messages of the WebSocket between a client and a gateway: one JSON object each, `type` first.

The gateway opens with a challenge; the client proves who it is; from then on both may speak at any time. Weights, plans
and updates never pass here: messages name them by digest and by short-lived URLs.

Versions: a client says the oldest and the newest version that it speaks, the gateway answers with the newest that both
do. Within a version, fields may be added, and whoever does not know them passes them over; a message of a type that a
version does not have is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from fededge.documents.base import first_mistake
from fededge.errors import ProtocolError
from fededge.protocol.fields import (
    Base64,
    Bytes,
    Count,
    Digest,
    Facts,
    Id,
    Name,
    Object,
    Said,
    Seconds,
    Text,
    Trace,
    Url,
)
from fededge.protocol.releases import Follow, Releases

OLDEST = 1
NEWEST = 2
"""Versions of the protocol that this code speaks."""
SUBPROTOCOL = "fededge"
"""Of the WebSocket (RFC 6455, section 1.9)."""
LARGEST_MESSAGE = 1 << 16
"""Most bytes of a message, either way."""

Phase = Literal["fetch", "train", "upload"]
"""What a client spends its time with."""
Kind = Literal["train", "evaluate", "ranges"]
"""What a client is asked to do: see fededge.learning.interfaces.Client."""


class Dataset(Said):
    """Examples that a client holds, by the name under which tasks ask for them.

    Attributes:
        schema_digest: `form_digest` of their schema (fededge.documents.Schema).
    """

    name: Name
    train: Count
    test: Count
    schema_digest: Digest


class Challenge(Said):
    """Gateway to client, at once: prove with your key that you are who you say.

    Attributes:
        nonce: 32 fresh random bytes, base64.
        gateway: its id.
        at: its clock, in seconds since the epoch.
    """

    type: Literal["challenge"] = "challenge"
    nonce: Base64
    gateway: Name
    at: float


class Hello(Said):
    """Client to gateway, once: who I am, its proof, and what I can do.

    Attributes:
        oldest, newest: versions of the protocol that it speaks.
        signature: base64, Ed25519 over `proofs.connection_bytes`.
        resume: id of the session that it had, to go on with its work.
        working: ids of the assignments that it has and has not reported.
        software: version of FedEdge.
        frameworks: of plans that it can execute.
        capabilities: processors, memory_bytes, platform and what else it says of itself.
        conditions: charging, metered, ... as they are now.
    """

    type: Literal["hello"] = "hello"
    oldest: Annotated[int, Field(ge=0, le=10_000)] = OLDEST
    newest: Annotated[int, Field(ge=0, le=10_000)] = NEWEST
    tenant: Name
    client: Name
    signature: Base64
    resume: Id | None = None
    working: Annotated[list[Id], Field(max_length=16)] = []
    software: Annotated[str, Field(max_length=64)] = ""
    frameworks: Annotated[list[Name], Field(max_length=16)] = []
    capabilities: Facts = {}
    conditions: Facts = {}
    datasets: Annotated[list[Dataset], Field(max_length=64)] = []


class Welcome(Said):
    """Gateway to client: you are in.

    Attributes:
        version: of the protocol that both speak from now on.
        heartbeat_seconds: how often to send a heartbeat.
        resumed: whether the session is the one that the client asked for.
        region: of the client, as operators have it now.
    """

    type: Literal["welcome"] = "welcome"
    version: int
    session: Id
    heartbeat_seconds: Seconds
    resumed: bool = False
    region: Name | None = None


class Refused(Said):
    """Gateway to client: I do not take that; after a hello the connection ends.

    Attributes:
        reason: a constant, such as REVOKED or OVERLOADED, for programs to read.
        retry_seconds: when to come back; None: not before a person acted.
        assignment: that the refused message was about, where it was about one.
    """

    type: Literal["refused"] = "refused"
    reason: Name
    message: Text
    retry_seconds: Seconds | None = None
    assignment: Id | None = None


class Heartbeat(Said):
    """Either way: I am here. A client's says its conditions where they changed; the gateway answers each."""

    type: Literal["heartbeat"] = "heartbeat"
    conditions: Facts | None = None


class Bye(Said):
    """Either way: I close this connection. The gateway's says when to come back (pace steering: Bonawitz et al. 2019,
    Towards Federated Learning at Scale: System Design, section 2.3).
    """

    type: Literal["bye"] = "bye"
    reason: Name
    retry_seconds: Seconds = 0.0


class Assignment(Said):
    """Gateway to client: work, until a deadline. It is sent again until the client accepts or declines it.

    Attributes:
        id: of this client's part in the round; the same however often it is sent.
        order: envelope (fededge.signing) of the `Order`, which says all that the work depends on.
        plan: a zip file of the plan's folder; `weights`: a safetensors file.
        upload: to PUT the update to, once, with its digest (Repr-Digest): a client need not ask for a place first.
        seconds_left: until the deadline, when this was sent: the clocks of two machines need not agree.
        share: of the client's training examples to learn from, chosen at random: less than 1 for a slow client
            (fededge.fleet.allocation).
        trace: of the coordinator's request. A client needs no tracing of its own: its report says how long its phases
            took.
    """

    type: Literal["assignment"] = "assignment"
    id: Id
    order: Annotated[str, Field(max_length=32_768)]
    plan: Object
    weights: Object
    upload: Url | None = None
    seconds_left: Seconds
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    trace: Trace | None = None


class Accept(Said):
    """Client to gateway: I have the assignment, written down, and work on it."""

    type: Literal["accept"] = "accept"
    assignment: Id


class Decline(Said):
    """Client to gateway: I do not do that, and why."""

    type: Literal["decline"] = "decline"
    assignment: Id
    reason: Text


class UploadRequest(Said):
    """Client to gateway: where may I put an update of these bytes?"""

    type: Literal["upload"] = "upload"
    assignment: Id
    digest: Digest
    bytes: Bytes


class UploadPlace(Said):
    """Gateway to client: here.

    Attributes:
        url: to PUT the bytes to. It takes HEAD and a PUT with Content-Range where `resumable`.
        offset: bytes that are there already.
        done: whether they all are: then `url` is empty.
    """

    type: Literal["place"] = "place"
    assignment: Id
    url: Annotated[str, Field(max_length=4096)]
    offset: Bytes = 0
    resumable: bool = False
    done: bool = False


class ReportMessage(Said):
    """Client to gateway: what came of an assignment: an update that lies uploaded, counts, ranges, or a failure.

    Attributes:
        counts, ranges: as fededge.learning.interfaces.EvaluationReport and RangesReport have them.
        seconds: that the work took.
        phases: seconds of its parts in their order: fetch, train, upload.
        fetched: bytes of plan and weights that were fetched for it.
    """

    type: Literal["report"] = "report"
    assignment: Id
    update: Digest | None = None
    counts: Annotated[dict[Name, float], Field(max_length=64)] | None = None
    ranges: dict[str, Any] | None = None
    failure: Text | None = None
    seconds: Seconds = 0.0
    phases: Annotated[dict[Phase, Seconds], Field(max_length=8)] = {}
    fetched: Bytes = 0


class Received(Said):
    """Gateway to client: I have your accept, decline or report, and it is kept; or why it does not count.

    Attributes:
        outcome: `kept` (or kept before: a repetition), `late` (the round is closed), `refused` (not yours, or not what
            was asked for).
    """

    type: Literal["received"] = "received"
    assignment: Id
    of: Literal["accept", "decline", "report"]
    outcome: Literal["kept", "late", "refused"]
    message: Text = ""


class Cancel(Said):
    """Gateway to client: stop working on this assignment, nobody waits for it."""

    type: Literal["cancel"] = "cancel"
    assignment: Id
    reason: Text = ""


ClientMessage = Hello | Heartbeat | Accept | Decline | UploadRequest | ReportMessage | Follow | Bye
GatewayMessage = (
    Challenge | Welcome | Refused | Heartbeat | Assignment | UploadPlace | Received | Cancel | Releases | Bye
)
FromClient: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])
FromGateway: TypeAdapter[GatewayMessage] = TypeAdapter(Annotated[GatewayMessage, Field(discriminator="type")])


def from_client(text: str | bytes) -> ClientMessage:
    """The message that a client sent.

    Raises:
        ProtocolError: it is too large, not JSON, or no message of this protocol.
    """
    return _read(FromClient, text)


def from_gateway(text: str | bytes) -> GatewayMessage:
    """The message that a gateway sent; as `from_client`."""
    return _read(FromGateway, text)


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a message, with each kind by its name in `$defs`."""
    _, definitions = TypeAdapter.json_schemas(
        [("client", "validation", FromClient), ("gateway", "validation", FromGateway)]
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"FedEdge protocol, versions {OLDEST} to {NEWEST}",
        "oneOf": [
            {"$ref": f"#/$defs/{name}"}
            for name, definition in sorted(definitions["$defs"].items())
            if "const" in definition["properties"].get("type", {})
        ],
        **definitions,
    }


def agreed(oldest: int, newest: int) -> int:
    """The version that this code speaks with somebody who speaks `oldest` to `newest`.

    Raises:
        ProtocolError: there is none.
    """
    version = min(newest, NEWEST)
    if version < max(oldest, OLDEST):
        raise ProtocolError(
            f"no version of the protocol in common: {oldest} to {newest} there, {OLDEST} to {NEWEST} here: update the "
            "older side",
            "VERSION",
        )
    return version


def _read(adapter: TypeAdapter[Any], text: str | bytes) -> Any:
    if len(text) > LARGEST_MESSAGE:
        raise ProtocolError(
            f"a message of {len(text):,} bytes, where {LARGEST_MESSAGE:,} are the most", "TOO_LARGE"
        )
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise ProtocolError(f"no message of this protocol: {first_mistake(error)}", "MALFORMED") from error
