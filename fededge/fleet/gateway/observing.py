"""What a gateway tells of itself: metrics, a log of JSON lines, and traces. Never a secret, and no name as it came.

Metrics have no label of a tenant or client: their number would be that of the fleet.
"""

import logging
import logging.config
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from structlog.tracebacks import ExceptionDictTransformer

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, of what takes milliseconds as a rule."""
_PROPAGATOR = TraceContextTextMapPropagator()
log: structlog.stdlib.BoundLogger = structlog.get_logger("fededge.gateway")


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fededge_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"fededge_{name}", text, labels, registry=self.registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"fededge_{name}_seconds", text, labels, registry=self.registry, buckets=FAST)

        self.connections = gauge("connections", "Clients with a session here")
        self.sessions = counter("sessions", "Sessions that began here", "resumed")
        self.messages = counter("messages", "Messages of the WebSocket", "direction", "type")
        self.refused = counter("refused", "Messages, handshakes and requests that were refused", "reason")
        self.requests = counter("requests", "HTTP requests", "method", "route", "status")
        self.request_seconds = seconds(
            "request", "From the head of a request to the end of its answer", "route"
        )
        self.answer_seconds = seconds("answer", "From a client's message to the answer", "type")
        self.registry_seconds = seconds("registry", "A call of the registry, waiting included", "call")
        self.batch = Histogram(
            "fededge_batch_calls",
            "Calls of the registry in one transaction",
            registry=self.registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200),
        )
        self.pending = gauge("pending", "Calls that wait for the registry")
        self.work = gauge("work", "Clients' parts in open rounds", "state")
        self.bytes = counter("bytes", "Bytes of objects", "direction")
        self.lag = gauge("event_loop_lag_seconds", "How late the event loop was lately")

    def text(self) -> bytes:
        """All of them, in the text format of Prometheus."""
        return generate_latest(self.registry)


def configure_log(level: str) -> None:
    """Write this process's log to standard error: one JSON object a line, ASCII alone, whatever a value holds."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            # Without local variables: some are secrets.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logger = logging.getLogger()
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    for noisy in ("alembic", "uvicorn.error", "uvicorn.access", "httpx", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def configure_traces(endpoint: str, gateway: str) -> None:
    """Send spans to `endpoint`, OTLP over HTTP."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "fededge-gateway", "service.instance.id": gateway})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, parent: str | None = None, **attributes: str) -> Iterator[trace.Span]:
    """A span around the block.

    Args:
        name: of the operation.
        parent: a `traceparent` (W3C Trace Context, section 3.2), None: the span around it here.
        attributes: ids.
    """
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    tracer = trace.get_tracer("fededge.gateway")
    with tracer.start_as_current_span(name, context, attributes=attributes) as current:
        yield current


def past_spans(
    name: str, parent: str | None, phases: Mapping[str, float], end: float, **attributes: str
) -> None:
    """Spans of what somebody without tracing did, as it says itself: one for all of it, and one a phase below it.

    Args:
        name: of the whole.
        parent: a `traceparent`, None: a trace of its own.
        phases: seconds of each, one after the other, the last until `end`.
        end: in seconds since the epoch.
        attributes: ids.
    """
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else Context()
    tracer = trace.get_tracer("fededge.gateway")
    begin = end - sum(phases.values())
    whole = tracer.start_span(name, context, attributes=attributes, start_time=_nanoseconds(begin))
    inside = trace.set_span_in_context(whole, context)
    for phase, seconds in phases.items():
        part = tracer.start_span(f"{name}.{phase}", inside, start_time=_nanoseconds(begin))
        begin += seconds
        part.end(_nanoseconds(begin))
    whole.end(_nanoseconds(end))


def _nanoseconds(seconds: float) -> int:
    return round(1e9 * seconds)


def traceparent(headers: Mapping[str, str]) -> str | None:
    """The trace that a request is part of, as `traceparent`: of the span around here, else of its headers."""
    here: dict[str, str] = {}
    _PROPAGATOR.inject(here)
    if not here:
        _PROPAGATOR.inject(here, _PROPAGATOR.extract({"traceparent": headers.get("traceparent", "")}))
    return here.get("traceparent")
