"""The gateway as an ASGI application: its routes, and what begins and ends with it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Lifespan

from fededge.errors import RegistryError
from fededge.fleet.gateway import openapi, problems, transfers
from fededge.fleet.gateway.dispatch import Dispatch
from fededge.fleet.gateway.operations import Operation, carry_out
from fededge.fleet.gateway.operators import OPERATIONS
from fededge.fleet.gateway.service import Service
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.gateway.socket import Connect
from fededge.fleet.gateway.watching import ROUTE, Watched
from fededge.fleet.registry.database import Registry

Handler = Callable[[Service, Request], Awaitable[ASGIApp]]


def create_app(settings: GatewaySettings, url: str | None = None) -> Starlette:
    """The application of one gateway, which is its `app.state.service`.

    Args:
        settings: of it.
        url: where it listens; None: as the settings have it.

    Raises:
        FedEdgeError: its registry, store or keys cannot be opened.
    """
    where = (settings.url or url or f"http://{settings.host}:{settings.port}").rstrip("/")
    service = Service(settings, where)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        dispatch = Dispatch(service)
        try:
            await dispatch.start()
            yield
        finally:
            await dispatch.stop()
            await service.close()

    return application(service, [WebSocketRoute("/v1/connect", Connect(service)), *api(service)], lifespan)


def application(
    service: Service, routes: Sequence[BaseRoute], lifespan: Lifespan[Starlette] | None = None
) -> Starlette:
    """An application with `routes` and those for machines; `app.state.service` is `service`."""

    async def problem(request: Request, error: Exception) -> Response:
        return _problem(service, request, error)

    app = Starlette(
        routes=[
            *routes,
            route(service, "/health", ["GET"], _health),
            route(service, "/ready", ["GET"], _ready),
            route(service, "/metrics", ["GET"], _metrics),
        ],
        middleware=[Middleware(Watched, service=service)],
        exception_handlers={HTTPException: problem, Exception: problem},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def route(service: Service, path: str, methods: list[str], handler: Handler) -> Route:
    """A route that `handler` answers."""

    async def endpoint(request: Request) -> ASGIApp:
        request.scope[ROUTE] = path
        return await handler(service, request)

    return Route(path, endpoint, methods=methods)


def api(service: Service) -> list[Route]:
    """Routes of the HTTP API, of objects and of what describes it."""
    return [
        *objects(service),
        *(route(service, path, [*methods], _api(methods)) for path, methods in _by_path().items()),
        route(service, "/openapi.json", ["GET"], _openapi),
    ]


def objects(service: Service) -> list[Route]:
    """Routes of objects, where the store is in files."""
    return [
        route(service, "/v1/objects/{grant}", ["GET"], transfers.fetch),
        route(service, "/v1/uploads/{grant}", ["PUT"], transfers.receive),
        route(service, "/v1/uploads/{grant}", ["HEAD"], transfers.look),
    ]


def _by_path() -> dict[str, dict[str, Operation]]:
    """Operations by path and method."""
    found: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        found.setdefault(operation.path, {})[operation.method] = operation
    return found


def _api(methods: dict[str, Operation]) -> Handler:
    async def handler(service: Service, request: Request) -> Response:
        return await carry_out(service, methods, request)

    return handler


def _problem(service: Service, request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        told = "a mistake in the gateway: its log tells more"
        return problems.told(service, "INTERNAL", told, 500, {})
    reason = {404: "NOT_FOUND", 405: "METHOD"}.get(error.status_code, "REFUSED")
    told = f"{request.method} does nothing at this address: see /openapi.json"
    return problems.told(service, reason, told, error.status_code, dict(error.headers or {}))


async def _health(service: Service, request: Request) -> Response:
    """Whether this process works; where it does not, it is to be started anew."""
    return _state("failed" if service.failed else "up", 500 if service.failed else 200)


async def _ready(service: Service, request: Request) -> Response:
    """Whether clients may be sent here."""
    if (why := service.full()) is not None:
        return _state(why, 503)
    try:
        await service.database.call(Registry.ping)
    except RegistryError:
        return _state("the registry does not answer", 503)
    return _state("ready", 200)


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _openapi(service: Service, request: Request) -> Response:
    return Response(json.dumps(openapi.document(OPERATIONS)), media_type="application/json")


def _state(state: str, status: int) -> Response:
    return Response(json.dumps({"state": state}), status, media_type="application/json")
