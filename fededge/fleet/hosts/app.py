"""The gateway's functions as CloudEvents services: one application of one function, or of several."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from fededge.errors import FedEdgeError, GatewayError, shown
from fededge.fleet.gateway import app, bodies, problems
from fededge.fleet.gateway.operations import Call, Path, Query, admitted, handled
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.hosts import envelopes
from fededge.fleet.hosts.envelopes import Event
from fededge.fleet.hosts.events import PREFIX, EventType, functions
from fededge.protocol.api import RoundRequest

NAMES = tuple(functions(lambda _: None))
"""Of the five functions."""


def create_app(
    settings: GatewaySettings, url: str, names: Collection[str], look: Callable[[float], None]
) -> Starlette:
    """The application of the functions `names`, each at /NAME; at / every event is taken that tells its function.

    Args:
        settings: as of a gateway.
        url: where it listens.
        names: of NAMES.
        look: looks after the runs that triggers start, at a time in seconds since the epoch.

    Raises:
        FedEdgeError: its registry, store or keys cannot be opened.
    """
    service = Service(settings, (settings.url or url).rstrip("/"))
    found = {name: types for name, types in functions(look).items() if name in names}
    by_type = {name: {_full(name, verb): each for verb, each in found[name].items()} for name in found}
    every = by_type[next(iter(found))] if len(found) == 1 else _together(by_type.values())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.load.watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await service.close()

    def taking(types: Mapping[str, EventType]) -> app.Handler:
        async def handler(service: Service, request: Request) -> Response:
            return await _take(service, types, request)

        return handler

    routes = [app.route(service, f"/{name}", ["POST"], taking(types)) for name, types in by_type.items()]
    routes += [app.route(service, "/", ["POST"], taking(every)), *app.objects(service)]
    return app.application(service, routes, lifespan)


async def _take(service: Service, types: Mapping[str, EventType], request: Request) -> Response:
    """Carry out the event of a request."""
    try:
        actor = await admitted(service, request, "reader")
        if isinstance(actor, Response):
            return actor
        settings = service.settings
        rounds = any(each.data is RoundRequest for each in types.values())
        most = settings.round_bytes if rounds and actor.scope != "reader" else settings.body_bytes
        event = await envelopes.read(request, most, settings.body_seconds)
        kind = types.get(event.type)
        if kind is None:
            raise GatewayError(
                f"no event of type {shown(event.type)} is taken here: docs/guides/functions.md lists them",
                "NO_EVENT",
                404,
            )
        actor.require(kind.scope)
        if kind.data is not RoundRequest and len(event.data) > settings.body_bytes:
            raise GatewayError(
                f"data of {len(event.data):,} bytes, where {settings.body_bytes:,} are the most",
                "TOO_LARGE",
                413,
            )
        path = bodies.from_text(Path, "subject", _subject(kind, event))
        data = bodies.parsed(kind.data, event.data or b"{}")
        query = data if isinstance(data, Query) else Query()
        call = Call(service, actor, path, query, data, request.headers, now())
        answer: BaseModel = await handled(kind.handler, call)
    except FedEdgeError as error:
        return problems.refused(service, error)
    return envelopes.answer(event, f"/fededge/{service.settings.id}", answer)


def _subject(kind: EventType, event: Event) -> dict[str, str]:
    if kind.subject is None:
        return {}
    if event.subject is None:
        raise GatewayError(f"an event of this type has a {kind.subject} as its subject", "MALFORMED", 400)
    return {kind.subject: event.subject}


def _full(function: str, verb: str) -> str:
    return verb if "." in verb else f"{PREFIX}.{function}.{verb}"


def _together(types: Collection[Mapping[str, EventType]]) -> dict[str, EventType]:
    """The types of several functions, without those that do not tell which function is meant."""
    return {name: each for some in types for name, each in some.items() if name.startswith(f"{PREFIX}.")}
