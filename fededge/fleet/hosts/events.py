"""The events that the gateway's five functions take: what each carries and is answered with, and what carries it out.

An operator's event is an operation of the HTTP API. Those that a client's words come in are sent by who holds the
client's connection; they may speak for every client of the tenant, and so need the scope admin. Events of what concerns
all tenants need an admin of the first one.

A broker may deliver an event more than once, and late: each of these leaves the same behind when it is repeated.
"""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fededge.errors import GatewayError
from fededge.fleet.functions import model_update, monitoring, operators
from fededge.fleet.gateway import assignments, joining
from fededge.fleet.gateway import dispatch as gateway_dispatch
from fededge.fleet.gateway.operations import Call
from fededge.fleet.gateway.operators import OPERATIONS
from fededge.fleet.registry.database import Registry
from fededge.protocol import (
    Accept,
    Accepted,
    Assignment,
    Cancel,
    Decline,
    Follow,
    Hello,
    Received,
    Releases,
    ReportMessage,
    UploadPlace,
    UploadRequest,
)
from fededge.protocol.api import Scope
from fededge.protocol.fields import Base64, Facts, Id, Name, Said, Seconds, Url

PREFIX = "dev.fededge"
PING = "dev.knative.sources.ping"
"""The type of what a Knative PingSource sends (Knative Eventing 1.17): a function does what it does by the clock."""
Handler = Callable[[Registry, Call], BaseModel] | Callable[[Call], Awaitable[BaseModel]]
Subject = Literal["client", "round", "name"]


class Connecting(Said):
    """A client answered the challenge of who holds its connection.

    Attributes:
        gateway: id of who holds the connection; `nonce`: of its challenge.
        heartbeat_seconds: how often the client will be heard.
    """

    gateway: Name
    nonce: Base64
    hello: Hello
    heartbeat_seconds: Annotated[float, Field(gt=0, le=3600)]


class Opened(Said):
    """The client's session: see fededge.fleet.functions.monitoring.Connected."""

    session: Id
    resumed: bool
    forget: list[Id]


class Beats(Said):
    """Sessions that were heard of, with the client's conditions where they changed."""

    sessions: Annotated[dict[Id, Facts | None], Field(max_length=10_000)]


class Sessions(Said):
    """Sessions whose connections are to be closed."""

    ended: list[Id]


class Session(Said):
    """A session whose connection is closed."""

    session: Id


class Lease(Said):
    """Who holds connections lives for `seconds` from now, at `url`."""

    gateway: Name
    url: Url
    seconds: Seconds


class Holder(Said):
    """Who holds connections, and asks what it is to send."""

    gateway: Name


class Outgoing(Said):
    """What is to be sent to the client of a session."""

    session: Id
    message: Assignment | Cancel


class Outbox(Said):
    """What is to be sent, and sessions whose connections are to be closed."""

    messages: list[Outgoing]
    ended: list[Id]


class Empty(Said):
    """Nothing needs to be said."""


@dataclass(frozen=True)
class EventType:
    """What an event of one type says and does.

    Attributes:
        summary: what it does.
        scope: that who sends it needs.
        data: what it carries; `answer`: what it is answered with.
        handler: carries it out.
        subject: what its attribute `subject` names; None: none is needed.
    """

    summary: str
    scope: Scope
    data: type[BaseModel]
    answer: type[BaseModel]
    handler: Handler
    subject: Subject | None = None


def _operation(method: str, path: str, subject: Subject | None = None) -> EventType:
    """The event that asks for an operation of the HTTP API: its data is the request's body, or else its query."""
    (found,) = (each for each in OPERATIONS if (each.method, each.path) == (method, path))
    assert found.scope is not None
    data = found.body or found.query
    return EventType(found.summary, found.scope, data, found.answer, found.handler, subject)


def _require_first(call: Call) -> None:
    if call.tenant != operators.FIRST_TENANT:
        raise GatewayError(
            f"this concerns all tenants: send it with an admin's token of the tenant {operators.FIRST_TENANT}",
            "FORBIDDEN",
            403,
        )


async def _connect(call: Call) -> Opened:
    told: Connecting = call.body
    if (told.hello.tenant, told.hello.client) != (call.tenant, call.path.client):
        raise GatewayError("the hello is of another tenant or client than the event", "FORBIDDEN", 403)
    nonce = base64.b64decode(told.nonce)
    found = await joining.joined(call.service, told.hello, nonce, told.gateway, told.heartbeat_seconds)
    return Opened(session=found.session, resumed=found.resumed, forget=found.forget)


def _beat(registry: Registry, call: Call) -> Sessions:
    return Sessions(ended=sorted(monitoring.beat(registry, call.body.sessions, call.now)))


def _disconnect(registry: Registry, call: Call) -> Accepted:
    monitoring.disconnect(registry, call.body.session, call.now)
    return Accepted()


def _lease(registry: Registry, call: Call) -> Accepted:
    _require_first(call)
    told: Lease = call.body
    monitoring.lease(registry, told.gateway, told.url, told.seconds, call.now)
    return Accepted()


def _sweep(registry: Registry, call: Call) -> Accepted:
    monitoring.sweep(registry, call.now)
    return Accepted()


def _expire(registry: Registry, call: Call) -> Accepted:
    model_update.expire(registry, call.now)
    return Accepted()


async def _dispatch(call: Call) -> Outbox:
    _require_first(call)
    service = call.service
    polled = await service.database.call(gateway_dispatch.poll, service.objects, call.body.gateway, call.now)
    told = [Outgoing(session=session, message=Cancel(assignment=id)) for session, id in polled.cancels]
    told += [Outgoing(session=session, message=message) for session, message in polled.due]
    return Outbox(messages=told, ended=polled.ended)


async def _said(call: Call) -> BaseModel:
    return await assignments.answer(call.service, call.tenant, call.path.client, call.body)


def functions(look: Callable[[float], None]) -> dict[str, dict[str, EventType]]:
    """The events of each function, by function and verb; `PING` stands for what it does by the clock.

    Args:
        look: looks after the runs that triggers start, at a time in seconds since the epoch.
    """

    def looked(registry: Registry, call: Call) -> Accepted:
        look(call.now)
        return Accepted()

    sweep = EventType("End the sessions that were not heard of for long", "operator", Empty, Accepted, _sweep)
    expire = EventType("Close the rounds that are past their deadline", "operator", Empty, Accepted, _expire)
    start = EventType("Start the runs that are due", "operator", Empty, Accepted, looked)
    # fmt: off
    return {
        "monitoring": {
            "list": _operation("GET", "/v1/clients"),
            "show": _operation("GET", "/v1/clients/{client}", "client"),
            "connect": EventType("Open a client's session", "admin", Connecting, Opened, _connect, "client"),
            "beat": EventType("Note that clients were heard of", "admin", Beats, Sessions, _beat),
            "disconnect": EventType("End a session", "admin", Session, Accepted, _disconnect),
            "lease": EventType("Say who holds connections", "admin", Lease, Accepted, _lease),
            "sweep": sweep,
            PING: sweep,
        },
        "selection": {"select": _operation("POST", "/v1/selections")},
        "model-update": {
            "offer": _operation("POST", "/v1/blobs"),
            "open": _operation("PUT", "/v1/rounds/{round}", "round"),
            "queue": _operation("GET", "/v1/rounds/{round}/queue", "round"),
            "dispatch": EventType("Tell what is to be sent to clients", "admin", Holder, Outbox, _dispatch),
            "accept": EventType("A client accepted", "admin", Accept, Received, _said, "client"),
            "decline": EventType("A client declined", "admin", Decline, Received, _said, "client"),
            "follow": EventType("A client asks for releases", "admin", Follow, Releases, _said, "client"),
            "release": _operation("PUT", "/v1/releases/{name}", "name"),
            "released": _operation("GET", "/v1/releases/{name}", "name"),
            "expire": expire,
            PING: expire,
        },
        "aggregation": {
            "list": _operation("GET", "/v1/rounds"),
            "show": _operation("GET", "/v1/rounds/{round}", "round"),
            "reports": _operation("GET", "/v1/rounds/{round}/reports", "round"),
            "close": _operation("POST", "/v1/rounds/{round}/close", "round"),
            "upload": EventType("A client asks where its update goes", "admin", UploadRequest, UploadPlace, _said,
                                "client"),
            "report": EventType("A client reported", "admin", ReportMessage, Received, _said, "client"),
        },
        "triggering": {
            "list": _operation("GET", "/v1/triggers"),
            "show": _operation("GET", "/v1/triggers/{name}", "name"),
            "put": _operation("PUT", "/v1/triggers/{name}", "name"),
            "delete": _operation("DELETE", "/v1/triggers/{name}", "name"),
            "fire": _operation("POST", "/v1/triggers/{name}/fire", "name"),
            "look": start,
            PING: start,
        },
    }
    # fmt: on
