"""Checking a task's data in the worker environment of this machine, before the first step runs."""

from collections.abc import Sequence
from pathlib import Path

from fededge.errors import EnvironmentMissing
from fededge.fleet import census
from fededge.fleet.gateway_client import GatewayClient
from fededge.host.layout import VENVS
from fededge.learning.data.checking import Finding, Report
from fededge.task import FederatedTask, FleetData
from pipelines.asking import ask
from pipelines.runs import all_runs


def check(task: FederatedTask, environments: Path = VENVS) -> Sequence[Finding]:
    """Find the mistakes of the task's data that its steps would end with; nothing is written.

    Of a fleet the held-out examples are looked at, and its gateway is asked who holds such.

    Returns:
        What was checked and found, in a few rows.

    Raises:
        DataError: the data are missing or malformed, or not enough for what the task asks.
        TaskError: a cohort is larger than the population.
        StorageError: they cannot be read.
        GatewayError: the gateway cannot be asked.
        EnvironmentMissing: there is no worker environment here.
    """
    report = _looked_at(task, environments)
    if not isinstance(task.data, FleetData):
        return report.findings
    return [_fleet(task.data, report.form), *report.findings]


def check_before_running(task: FederatedTask, home: Path, fresh: bool) -> None:
    """Check as `check` does, unless an earlier run of the same identity, whose data were checked, will go on.

    Args:
        task: what is to be run.
        home: FEDEDGE_HOME.
        fresh: whether a new run is asked for in any case.

    Raises:
        DataError, TaskError, StorageError, GatewayError, EnvironmentMissing: as `check`.
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
        _looked_at(task, environments)
    except EnvironmentMissing:
        return


def _looked_at(task: FederatedTask, environments: Path) -> Report:
    """What the worker environment finds in the examples that are read where the task runs."""
    what = f"the data of task {task.name}"
    return ask("fededge.learning.data.checking", task.to_json(), Report, what, environments)


def _fleet(data: FleetData, form: str | None) -> Finding:
    """How many clients hold examples of this form; of any form where it is not known yet."""
    alike = others = 0
    with GatewayClient.from_settings() as gateway:
        for _, is_alike in census.holders(gateway, data.dataset, form):
            alike, others = alike + is_alike, others + (not is_alike)
        if not alike:
            raise census.nobody(gateway, data.dataset, others)
    more = f", {others:,} hold others and are left out" if others else ""
    return Finding(checked="data.source fleet", found=f"{alike:,} clients hold {data.dataset}{more}")
