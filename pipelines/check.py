"""Checking a task's data in the worker environment of this machine, before the first step runs."""

from collections.abc import Sequence
from pathlib import Path

from fededge.errors import EnvironmentMissing
from fededge.host.layout import VENVS
from fededge.learning.data.checking import Finding, Report
from fededge.task import FederatedTask
from pipelines.asking import ask
from pipelines.runs import all_runs


def check(task: FederatedTask, environments: Path = VENVS) -> Sequence[Finding]:
    """Find the mistakes of the task's data that its steps would end with; nothing is written.

    Returns:
        What was checked and found, in a few rows.

    Raises:
        DataError: the data are missing or malformed, or not enough for what the task asks.
        TaskError: a cohort is larger than the population.
        StorageError: they cannot be read.
        EnvironmentMissing: there is no worker environment here.
    """
    what = f"the data of task {task.name}"
    return ask("fededge.learning.data.checking", task.to_json(), Report, what, environments).findings


def check_before_running(task: FederatedTask, home: Path, fresh: bool) -> None:
    """Check as `check` does, unless an earlier run of the same identity, whose data were checked, will go on.

    Args:
        task: what is to be run.
        home: FEDEDGE_HOME.
        fresh: whether a new run is asked for in any case.

    Raises:
        DataError, TaskError, StorageError, EnvironmentMissing: as `check`.
    """
    earlier = (run for run in all_runs(home) if run.record.identity == task.identity)
    latest = None if fresh else next(earlier, None)
    if latest is None or latest.record.status == "succeeded":
        check(task)


def check_before_submitting(task: FederatedTask, environments: Path = VENVS) -> None:
    """Check what this machine can of a task that runs elsewhere.

    Data behind a URL, which only the cluster may reach, are left out, and so is everything where this
    machine has no worker environment.

    Raises:
        DataError, TaskError, StorageError: as `check`.
    """
    if "://" in str(getattr(task.local_data, "path", "")):
        return
    try:
        check(task, environments)
    except EnvironmentMissing:
        return
