"""A whole run for the report's tests, and parts to make others of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fededge.documents import DeviceReport, Document, Ending, GateDecision, RoundRecord, Rounds, StepRecord
from fededge.report import Report, read, report_of
from fededge.task import FederatedTask

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
RECORDS: dict[str, Any] = EXAMPLE["records"]
DEVICES = [DeviceReport.from_content(content) for content in EXAMPLE["devices"].values()]
TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')
COMPARED = FederatedTask.from_json(
    '{"name": "digits", "data": {"source": "digits"}, "compare": {"centralized": true}, '
    '"gate": {"max_gap_to_centralized": 0.05}}'
)
HOSTILE = (
    '"><script>alert(1)</script><img src=x onerror=alert(1)> $\\frac{1}{0}$ {{ 7*7 }} &amp; \x00\x1b[31m'
)


def contents(documents: dict[str, Document]) -> dict[str, Any]:
    """The documents as records."""
    return {name: document.to_content() for name, document in documents.items()}


def report(
    records: dict[str, Any],
    devices: Sequence[DeviceReport] = (),
    url: str = "mlflow ui",
    task: FederatedTask = TASK,
) -> Report:
    """The report of a run with these records, in which a record may be a document."""
    plain = {name: c.to_content() if isinstance(c, Document) else c for name, c in records.items()}
    return report_of(task, "run-1", url, read(plain, devices))


def changed(name: str, /, **changes: Any) -> dict[str, Any]:
    """The example's record `name` with some fields changed, by its name."""
    return {name: RECORDS[name] | changes}


def step(name: str, started: int = 0, error: str | None = None) -> dict[str, Any]:
    """Record of a step of 2 s that began at second `started`; with an error it failed."""
    status: Any = "failed" if error else "succeeded"
    at: Any = f"2026-01-01T00:00:{started:02d}+00:00"
    return {f"steps/{name}": StepRecord(step=name, started=at, seconds=2.0, status=status, error=error)}


def ended(state: str, error: str | None = None) -> dict[str, Any]:
    """Record of how the pipeline ended."""
    return {"ending": Ending(state=state, error=error)}


def refused(*reasons: str) -> dict[str, Any]:
    """Record of a gate that did not let the model pass."""
    return {"gate": GateDecision(decision="fail", reasons=list(reasons), score=0.5)}


def round_record(number: int, cohort: list[str], reported: list[str], **more: Any) -> RoundRecord:
    """A round in which some of the cohort reported."""
    figures = {"examples": 10, "loss": 1.0, "score": 0.5, "seconds": 2.0, "at": 0.0}
    return RoundRecord(round=number, cohort=cohort, reported=reported, **(figures | more))


def rounds(*records: RoundRecord) -> dict[str, Any]:
    """Record of rounds that one step committed."""
    return {"rounds-0001": Rounds(rounds=list(records))}


def device(name: str = "camera-1", **changes: Any) -> DeviceReport:
    """Report of a camera that runs what the example releases to it, with some fields changed."""
    (like,) = [found for found in DEVICES if found.device == "camera-3"]
    content = like.to_content() | {"device": name} | changes
    return DeviceReport.from_content(content)
