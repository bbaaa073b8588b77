"""Refusals of the HTTP API: a status, and a Problem that says why and what to do."""

from starlette.responses import Response

from fededge.errors import FedEdgeError, GatewayError, RegistryError, StorageError
from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.service import Service
from fededge.protocol import Problem

LONGEST = 2000
RETRY_SECONDS = 5.0
"""After what a client of HTTP tries again when the registry or the store failed."""


def refused(service: Service, error: FedEdgeError) -> Response:
    """The answer to a request that raised `error`."""
    if isinstance(error, RegistryError):
        log.error("registry", problem=str(error))
        return busy(service, "UNAVAILABLE", "the registry does not answer: try again", 503, RETRY_SECONDS)
    if isinstance(error, StorageError):
        log.error("store", problem=str(error))
        return busy(service, "STORAGE", "the object store failed: try again", 503, RETRY_SECONDS)
    if isinstance(error, GatewayError) and error.status == 503:
        return busy(service, error.reason, str(error), 503, 1.0)
    if isinstance(error, GatewayError):
        headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
        return told(service, error.reason, str(error), error.status or 400, headers)
    return told(service, "REFUSED", str(error), 400, {})


def busy(service: Service, reason: str, message: str, status: int, seconds: float) -> Response:
    """The answer that asks to come back after `seconds`."""
    return told(service, reason, message, status, {"retry-after": str(max(1, round(seconds)))})


def told(service: Service, reason: str, message: str, status: int, headers: dict[str, str]) -> Response:
    """An answer with a Problem, counted."""
    service.metrics.refused.labels(reason).inc()
    problem = Problem(reason=reason, message=message[:LONGEST])
    return Response(problem.model_dump_json(), status, headers, media_type="application/json")
