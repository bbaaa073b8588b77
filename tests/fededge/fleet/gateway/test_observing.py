import json
import subprocess
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fededge.fleet.gateway.observing import Metrics, span, traceparent

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
