"""A task's whole job on this machine: compile, run, let devices take the release, report."""

import contextlib
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fededge import settings, storage
from fededge.documents import DeviceReports, Release
from fededge.documents.run import OUTCOME_LIMIT
from fededge.errors import ReportError
from fededge.fleet.simulation import SimulatedDevices
from fededge.learning.bundles import packed
from fededge.report import Report, replace_page, write_report
from fededge.signing import LIMIT, TrustedKey, public_file
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun
from pipelines import runs
from pipelines.check import check_before_running
from pipelines.federated_training.pipeline import compile_to
from pipelines.local import run_local
from pipelines.runs import Run

DEVICES_SECONDS = 120.0
"""How long simulated devices may take to run a release."""


@dataclass(frozen=True)
class Finished:
    """A job that ran to its end: its run, its report, and the page that shows it."""

    run: Run
    report: Report
    page: Path


def run_task(
    task: FederatedTask,
    *,
    devices: int = 0,
    fresh: bool = False,
    say: Callable[[str], None] | None = None,
) -> Finished:
    """Run a task's pipeline on this machine, in FEDEDGE_HOME.

    Args:
        task: what to learn.
        devices: how many simulated devices take the release, if there is one.
        fresh: start a new run even where an earlier one of this task's identity did not finish.
        say: gets a line of progress now and then, as in `run_local`.

    Raises:
        FedEdgeError: a mistake with a name; nothing is half-written, and the job can be run again.
        pipelines.local_steps.StepFailed: a step failed without one.
    """
    home, task = settings.home(), packed(task, on_cluster=False)
    say = say or functools.partial(print, file=sys.stdout, flush=True)
    check_before_running(task, home, fresh)
    with runs.begin(task, home, fresh) as (run, resumed):
        folder = run.folder(home)
        say(f"{'going on with ' if resumed else ''}run {folder}")
        package, page = folder / "pipeline.yaml", folder / "report.html"
        compile_to(task, package, on_cluster=False)
        try:
            run_local(package, {"task": task.to_json()}, run.id, home, say=say)
            if devices:
                _deliver(task, run, home, devices, say)
        except Exception:
            # The exit handler wrote it, though where MLflow is out of reach that step counts as failed.
            written = sorted(folder.glob("artifacts/*/write-report/report"), key=lambda p: p.stat().st_mtime)
            if written:
                with contextlib.suppress(ReportError):  # the page of an earlier try shows more
                    replace_page(page, written[-1].read_bytes())
                say(f"report: {page}")
            raise
        report = write_report(task, run.id, page)
        run.save(home, outcome=report.outcome.title[:OUTCOME_LIMIT])
    return Finished(run, report, page)


def report_again(run_id: str = "", page: Path | None = None) -> Finished:
    """Write the report of a run of this machine (by default the latest) with what is known now.

    Args:
        run_id: which run.
        page: file for it; by default with the run.

    Raises:
        RunError: there is no such run.
        TrackingError: MLflow cannot be reached.
    """
    home = settings.home()
    run, task = runs.find(home, run_id)
    page = page or run.folder(home) / "report.html"
    return Finished(run, write_report(task, run.id, page), page)


def _deliver(task: FederatedTask, run: Run, home: Path, count: int, say: Callable[[str], None]) -> None:
    """Let simulated devices take the release, and record what they report."""
    data = run.artifact(home, "prepare-data", "data")
    envelope = run.artifact(home, "release-variants", "release")
    if not (data and envelope):
        say("no release, so nothing for devices")
        return
    trusted = TrustedKey.load(public_file(settings.signing_key_file()))
    number = Release.opened(storage.read(str(envelope), LIMIT), trusted, task.name).version
    say(f"{count} devices started")
    with TrackedRun.find(run.id, task).step("devices") as step:
        with SimulatedDevices(task, count, data) as simulated:
            reports = simulated.wait(number, DEVICES_SECONDS)
        step.record("devices", DeviceReports(devices=reports))
    say(f"{count} devices run version {number}")
