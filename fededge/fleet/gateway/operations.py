"""One operation of the HTTP API: what it takes and answers, and the way of a request through its checks.

Address and token are checked first, at little cost; then the load; then what was sent. The handler comes last.
"""

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from fededge.errors import FedEdgeError
from fededge.fleet.gateway import bodies, problems
from fededge.fleet.gateway.auth import Actor
from fededge.fleet.gateway.limits import address_of
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.registry.database import Registry
from fededge.protocol.api import Scope
from fededge.protocol.fields import Id, Name

ENTERING = Actor("", "enrollment", "reader")
"""Who calls where no token is asked for."""


class Path(BaseModel):
    """Values of a URL's path."""

    model_config = ConfigDict(frozen=True)

    client: Name = "-"
    round: Id = "-"
    name: Name = "-"
    id: Id = "-"


class Query(BaseModel):
    """The query of a URL: none, where nothing is added. What it does not know is a mistake, such as a misspelt filter."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listing(Query):
    """Query of a list: those after `after`, at most `limit`."""

    after: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@dataclass(frozen=True)
class Call:
    """A request that passed all checks.

    Attributes:
        actor: who sent it.
        path, query, body: what it says.
        headers: of HTTP.
        now: in seconds since the epoch.
    """

    service: Service
    actor: Actor
    path: Path
    query: Any
    body: Any
    headers: Mapping[str, str]
    now: float

    @property
    def tenant(self) -> str:
        """Whose clients and rounds it is about."""
        return self.actor.tenant


@dataclass(frozen=True)
class Operation:
    """An operation of the API.

    Attributes:
        method, path: where it is found; `{name}` in the path is one of `Path`.
        summary: what it does.
        scope: that its caller needs; None: none, not even a token.
        answer: what it answers with; `status`: as which.
        handler: carries it out: called in a thread with the registry, or awaited where it needs more.
        body, query: what it takes.
        wakes: whether it made work for gateways, by its answer.
    """

    method: str
    path: str
    summary: str
    scope: Scope | None
    answer: type[BaseModel]
    handler: Callable[[Registry, Call], BaseModel] | Callable[[Call], Awaitable[BaseModel]]
    body: type[BaseModel] | None = None
    query: type[Query] = Query
    status: int = 200
    wakes: Callable[[Any], bool] = lambda answer: False


async def carry_out(service: Service, operations: Mapping[str, Operation], request: Request) -> Response:
    """Answer a request to a path with these operations, by method."""
    operation = operations["GET" if request.method == "HEAD" else request.method]
    try:
        actor = await admitted(service, request, operation.scope)
        if isinstance(actor, Response):
            return actor
        call = await _call(service, operation, actor, request)
        answer = await handled(operation.handler, call)
        if operation.wakes(answer):
            service.wake_ups.wake()
    except FedEdgeError as error:
        return problems.refused(service, error)
    return Response(
        answer.model_dump_json(exclude_none=True), operation.status, media_type="application/json"
    )


async def admitted(service: Service, request: Request, scope: Scope | None) -> Actor | Response:
    """Who sends a request that needs `scope`, or the answer that turns it away for now.

    Raises:
        GatewayError: nobody that is known here, or without that scope.
    """
    at = time.monotonic()
    address = address_of(request.scope["client"])
    if wait := service.requests.take(address, at):
        return problems.busy(service, "TOO_FREQUENT", "send fewer requests", 429, wait)
    if scope is None and (wait := service.enrolls.take(address, at)):
        return problems.busy(service, "TOO_FREQUENT", "try to enroll less often", 429, wait)
    if why := service.overloaded():
        return problems.busy(service, "OVERLOADED", f"{why}: come back later", 503, service.load.turn_away())
    if scope is None:
        return ENTERING
    actor = await service.authentication.actor(request.headers)
    if wait := service.operations.take(f"{actor.tenant} {actor.name}", at):
        return problems.busy(service, "TOO_FREQUENT", "send fewer requests", 429, wait)
    actor.require(scope)
    return actor


async def handled(handler: Any, call: Call) -> BaseModel:
    """What `handler`, of an Operation, answers to a call."""
    if inspect.iscoroutinefunction(handler):
        return cast(BaseModel, await handler(call))
    return cast(BaseModel, await call.service.database.call(handler, call))


async def _call(service: Service, operation: Operation, actor: Actor, request: Request) -> Call:
    settings = service.settings
    path = bodies.from_text(Path, "path", request.path_params)
    query = bodies.from_text(operation.query, "query", dict(request.query_params))
    body = None
    if operation.body is not None:
        most = settings.round_bytes if operation.path == "/v1/rounds/{round}" else settings.body_bytes
        body = bodies.parsed(operation.body, await bodies.read(request, most, settings.body_seconds))
    return Call(service, actor, path, query, body, request.headers, now())
