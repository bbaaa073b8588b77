"""Runs in a list, of this machine or of Kubeflow, alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fededge.documents import Ending
from fededge.errors import FedEdgeError
from pipelines.kubeflow import Kubeflow
from pipelines.runs import Run, scan

ENDINGS = {
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "stopped": "CANCELED",
    "interrupted": "CANCELED",
}
"""How a run of this machine with this status ended, in the pipeline's words."""


@dataclass(frozen=True)
class ListedRun:
    """A run in a list.

    Attributes:
        run: its id.
        task: name of its task.
        state: running, succeeded, failed ...
        step: what runs now.
        started: when it began.
        outcome: what came of it, in one line.
        ending: how it ended; None while it is under way.
    """

    run: str
    task: str
    state: str
    step: str
    started: datetime
    outcome: str
    ending: Ending | None


def local_runs(home: Path, limit: int) -> tuple[list[ListedRun], Sequence[FedEdgeError]]:
    """The latest runs of this machine, and why others cannot be read."""
    found, damaged = scan(home)
    return [_local(run, home) for run in found[:limit]], list(damaged.values())


def cluster_runs(kubeflow: Kubeflow, limit: int) -> list[ListedRun]:
    """The latest runs of FedEdge's on Kubeflow.

    Raises:
        KubeflowError: the API refused.
    """
    listed = []
    for run in kubeflow.runs(limit):
        step = "" if run.ending else kubeflow.get(run.id).under_way
        listed.append(
            ListedRun(run.id, run.task, run.state.lower(), step, run.created, run.error or "", run.ending)
        )
    return listed


def _local(run: Run, home: Path) -> ListedRun:
    state = run.status(home)
    running = []
    if state == "running":
        try:
            running = [name for name, step in run.steps(home).steps.items() if step.status == "running"]
        except FedEdgeError:  # `runs show` tells
            running = []
    ending = Ending(state=ENDINGS[state], error=run.record.outcome) if state in ENDINGS else None
    record = run.record
    return ListedRun(run.id, record.task, state, ", ".join(running), record.started, record.outcome, ending)
