"""Writing the report: at the end of a run, and again whenever more is known.

A page that stands is never replaced by one that shows less, as when its run is no longer found in MLflow.
"""

import contextlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fededge import storage
from fededge.documents import Ending
from fededge.errors import ReportError, TrackingError
from fededge.report.content import Report, report_of
from fededge.report.page import render
from fededge.report.plots import plots
from fededge.report.records import device_reports, read
from fededge.task import FederatedTask
from fededge.tracking.run import ENDING, TrackedRun

STEP = "write_report"
PAGE_LIMIT = 64 << 20
SHOWS = re.compile(r'<meta name="fededge-shows" content="([a-z_]+=[0-9]{1,9}(?: [a-z_]+=[0-9]{1,9})*)">')
"""How many of each a page shows, as the template writes it into its first lines."""


def write_report(task: FederatedTask, run: str, path: str | Path) -> Report:
    """Write the report of pipeline run `run` to `path`, and beside the run's records in MLflow.

    It shows what is known now: call it again when devices have reported.

    Raises:
        TrackingError: MLflow cannot be reached, or does not know the run.
        ReportError: MLflow has no records of the run, or the page at `path` shows more than there is now.
            That page stays as it is.
        StorageError: `path` cannot be written.
    """
    tracked = TrackedRun.find(run, task)
    records = tracked.records()
    if not records:
        raise ReportError(
            f"MLflow has no records of run {run} in {tracked.artifact_uri}/records: wait until its first step "
            "has ended; or, if FEDEDGE_HOME was moved, move it back, since MLflow keeps absolute paths"
        )
    report = _report(task, run, tracked, records)
    _refuse_loss(path, report.facts.counts)
    _write(report, tracked, path)
    return report


def end_run(task: FederatedTask, run: str, path: str | Path, state: str, error: str | None) -> Report:
    """Record how the pipeline ended, end its MLflow run and write its report to `path`.

    Args:
        task: what was to be learned.
        run: the pipeline run's id.
        path: the HTML file to write.
        state: in the platform's words, see fededge.documents.Ending.
        error: the platform's message, if it failed.

    Raises:
        TrackingError: MLflow cannot be reached. `path` then holds a report that says so, unless one with
            more was there.
        ReportError: the page at `path` shows more than there is now. That page stays as it is.
        StorageError: `path` cannot be written.
    """
    try:
        tracked = TrackedRun.join(run, task)
        with tracked.step(STEP):
            tracked.end(Ending(state=state, error=error))
            report = _report(task, run, tracked, tracked.records())
    except TrackingError as untracked:
        facts = read({ENDING: Ending(state="FAILED", error=str(untracked)).to_content()})
        with contextlib.suppress(ReportError):  # a page that shows more is worth more than this one
            _refuse_loss(path, facts.counts)
            storage.write(str(path), render(report_of(task, run, "not reached", facts)))
        raise
    _refuse_loss(path, report.facts.counts)
    _write(report, tracked, path)
    return report


def replace_page(path: str | Path, page: bytes) -> None:
    """Write the rendered report `page` to `path`.

    Raises:
        ReportError: the page at `path` shows more. It stays as it is.
        StorageError: `path` cannot be written.
    """
    _refuse_loss(path, _shown(page))
    storage.write(str(path), page)


def _report(task: FederatedTask, run: str, tracked: TrackedRun, records: Mapping[str, Any]) -> Report:
    return report_of(task, run, tracked.url, read(records, *device_reports(task.name)))


def _shown(page: bytes) -> dict[str, int]:
    """How many of each a rendered page says that it shows."""
    counts = SHOWS.search(page[:2000].decode(errors="replace"))
    pairs = [each.split("=") for each in counts[1].split(" ")] if counts else []
    return {name: int(count) for name, count in pairs}


def _refuse_loss(path: str | Path, counts: Mapping[str, int]) -> None:
    """Raise ReportError if the page at `path` shows more of anything than `counts` says there is."""
    if not storage.exists(str(path)):
        return
    shown = _shown(storage.read(str(path), PAGE_LIMIT))
    lost = [
        f"{name.replace('_', ' ')} {before}, now {counts.get(name, 0)}"
        for name, before in shown.items()
        if before > counts.get(name, 0)
    ]
    if lost:
        raise ReportError(
            f"{path} shows more than can be read now ({'; '.join(lost)}), so it is left as it is. Set FEDEDGE_HOME, "
            "FEDEDGE_STORAGE and MLFLOW_TRACKING_URI as they were for that run, or move the page away and write "
            "the report again"
        )


def _write(report: Report, tracked: TrackedRun, path: str | Path) -> None:
    page = render(report)
    storage.write(str(path), page)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.html").write_bytes(page)
        for name, image in plots(report).items():
            (Path(folder) / name).write_bytes(image)
        tracked.keep(Path(folder), "report")
