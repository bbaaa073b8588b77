import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fededge.fleet.gateway.observing import Metrics, span, traceparent
from fededge.fleet.registry.database import Registry
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token

PROGRAM = """
import logging
from fededge.fleet.gateway.observing import configure_log, log
configure_log("INFO")
log.info("session", client="a\\nlevel=error \\u2028 \\x1b[31m \\ud800", number=3)
secret = "fe_secret"
try:
    raise ValueError("broken")
except ValueError:
    log.exception("mistake")
logging.getLogger("uvicorn.error").warning("a library says %s", "x\\ny")
logging.getLogger("uvicorn.error").info("too much")
"""


def lines() -> list[dict[str, Any]]:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert ran.stderr.isascii()
    assert b"fe_secret" not in ran.stderr
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_the_log_is_a_json_object_a_line_whatever_a_value_holds() -> None:
    session, mistake, library = lines()
    assert session["client"] == "a\nlevel=error \u2028 \x1b[31m \ud800"
    assert (session["event"], session["level"], session["number"]) == ("session", "info", 3)
    assert mistake["exception"][0]["exc_value"] == "broken"
    assert (library["event"], library["level"]) == ("a library says x\ny", "warning")


def test_two_gateways_of_a_process_have_metrics_of_their_own() -> None:
    first, second = Metrics(), Metrics()
    first.refused.labels("TOO_LARGE").inc()
    assert b'fededge_refused_total{reason="TOO_LARGE"} 1.0' in first.text()
    assert b'reason="TOO_LARGE"' not in second.text()


def test_spans_belong_to_the_trace_of_the_request() -> None:
    given = f"00-{'a1' * 16}-{'b2' * 8}-01"
    assert traceparent({}) is None
    assert traceparent({"traceparent": "nonsense"}) is None
    assert traceparent({"traceparent": given}) == given
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with span("outer", given, client="site-1"), span("inner"):
        here = traceparent({"traceparent": given})
    assert here is not None
    assert here.split("-")[1] == "a1" * 16
    inner, outer = exporter.get_finished_spans()
    assert (outer.name, dict(outer.attributes or {})) == ("outer", {"client": "site-1"})
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert here.split("-")[2] == f"{inner.context.span_id:016x}"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Endpoint of a collector of OTLP over HTTP, and the spans that it has so far."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()
        thread.join()


def test_a_trace_leads_from_the_request_to_the_phases_of_a_client(tmp_path: Path) -> None:
    given = f"00-{'a1' * 16}-{'b2' * 8}-01"
    with collector() as (endpoint, spans):
        with Gateway.start(tmp_path, trace_endpoint=endpoint) as gateway:
            registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
            admin = Operator(gateway.url, token(registry))
            registry.close()
            client = admin.enroll("site").join()
            admin.http.headers["traceparent"] = given
            admin.round("r", ["site"], kind="evaluate", update_bytes=None)
            assignment = client.hear()
            report = {
                "type": "report",
                "assignment": assignment.id,
                "counts": {"examples": 1.0},
                "seconds": 3.0,
            }
            assert client.ask(report | {"phases": {"fetch": 1.0, "train": 2.0}}).outcome == "kept"
            refused = client.ask(report | {"phases": {"sleep": 1.0}})
            assert (refused.type, refused.reason) == ("refused", "MALFORMED")
            client.close()
            admin.close()
            assert gateway.end() == 0  # it sends what it has
        found = {span.name: span for span in spans}
    trace_id = bytes.fromhex("a1" * 16)
    whole, fetch, train = (found[name] for name in ("client", "client.fetch", "client.train"))
    assert {span.trace_id for span in (whole, fetch, train)} == {trace_id}
    assert fetch.parent_span_id == train.parent_span_id == whole.span_id
    assert whole.parent_span_id.hex() == assignment.trace.split("-")[2]
    assert train.end_time_unix_nano - train.start_time_unix_nano == pytest.approx(2e9, abs=1e3)
    assert fetch.end_time_unix_nano == train.start_time_unix_nano
    assert {each.key for each in whole.attributes} == {"client", "tenant", "assignment"}
