"""Writing the report: at the end of a run, and again whenever more is known."""

import tempfile
from pathlib import Path

from fededge import storage
from fededge.errors import TrackingError
from fededge.report.content import Report, report_of
from fededge.report.page import render
from fededge.report.records import device_reports, read
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

ENDING = "ending"
STEP = "write_report"


def write_report(task: FederatedTask, run: str, path: str | Path) -> Report:
    """Write the report of pipeline run `run` to `path`, and beside the run's records in MLflow.

    It shows what is known now: call it again when devices have reported.

    Raises:
        TrackingError: MLflow cannot be reached.
        StorageError: `path` cannot be written.
    """
    tracked = TrackedRun.join(run, task)
    report = _report(task, run, tracked)
    _write(report, tracked, path)
    return report


def end_run(task: FederatedTask, run: str, path: str | Path, state: str, error: str | None) -> Report:
    """Record how the pipeline ended, end its MLflow run and write its report to `path`.

    Args:
        task: what was to be learned.
        run: the pipeline run's id.
        path: the HTML file to write.
        state: SUCCEEDED, FAILED or CANCELLED.
        error: the platform's message, if it failed.

    Raises:
        TrackingError: MLflow cannot be reached. `path` then holds a report that says so.
        StorageError: `path` cannot be written.
    """
    try:
        tracked = TrackedRun.join(run, task)
        with tracked.step(STEP) as step:
            step.record(ENDING, {"state": state, "error": error})
            tracked.status(state)
            report = _report(task, run, tracked)
    except TrackingError as untracked:
        facts = read({ENDING: {"state": "FAILED", "error": str(untracked)}})
        storage.write(str(path), render(report_of(task, run, "not reached", facts)))
        raise
    _write(report, tracked, path)
    return report


def _report(task: FederatedTask, run: str, tracked: TrackedRun) -> Report:
    return report_of(task, run, tracked.url, read(tracked.records(), device_reports(task.name)))


def _write(report: Report, tracked: TrackedRun, path: str | Path) -> None:
    page = render(report)
    storage.write(str(path), page)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.html").write_bytes(page)
        tracked.keep(Path(folder), "report")
