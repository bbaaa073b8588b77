"""Each HTTP request is counted, timed, logged and traced, by the pattern of its path: never by the path itself, which may
hold a grant.
"""

import secrets
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fededge.fleet.gateway.observing import log, span
from fededge.fleet.gateway.service import Service

ROUTE = "fededge.route"
"""Key of a scope that holds the pattern of the path that was found."""


class Watched:
    """The application, watched.

    Args:
        app: that answers.
        service: the gateway.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        request = secrets.token_hex(8)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request.encode())]
            await send(message)

        try:
            with span("http", Headers(scope=scope).get("traceparent"), request=request):
                await self._app(scope, receive, watched)
        finally:
            self._note(scope, status, time.perf_counter() - begun, request)

    def _note(self, scope: Scope, status: int, seconds: float, request: str) -> None:
        metrics = self._service.metrics
        route = scope.get(ROUTE, "none")
        method = scope["method"] if route != "none" else "none"
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if route not in ("/health", "/ready", "/metrics"):
            log.info(
                "request",
                request=request,
                method=method,
                route=route,
                status=status,
                seconds=round(seconds, 4),
            )
