"""Runs on Kubeflow as FedEdge sees them: whose they are, how far they are, and how they ended.

Kubeflow shows a step as a task with its name, a driver, an executor and repetitions `NAME(0)`; only the task
with the step's name counts here. Its tasks may stay RUNNING after the run has ended: the run's own state tells.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fededge.documents import Ending
from fededge.task import FederatedTask

PREFIX = "fededge-"
"""With which our pipelines' names begin, and those of their workflows on Kubeflow."""
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
INNER = re.compile(
    r"(.*-driver|.*\(\d+\)|executor|root|driver|(iteration|for-loop|condition|condition-branches|exit-handler)(-.*)?)$"
)
"""Tasks that are no steps."""


def pipeline_name(task: str) -> str:
    """Name of the pipeline of the task with this name."""
    return f"{PREFIX}{task}"


@dataclass(frozen=True)
class ClusterStep:
    """A step of a run; `ended` is None while it is under way, `state` in Kubeflow's words."""

    name: str
    state: str
    started: datetime
    ended: datetime | None

    @property
    def seconds(self) -> float:
        """How long it took, or has taken until now."""
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()


@dataclass(frozen=True)
class ClusterRun:
    """A run of a FedEdge pipeline on Kubeflow.

    Attributes:
        id: Kubeflow's id.
        task: name of its task.
        task_json: the task, as the run was given it.
        state: in Kubeflow's words.
        created: when it was asked for.
        version: id of the pipeline version that runs, "" where a pipeline was handed in with the run.
        error: Kubeflow's message.
        steps: in the order of their start; empty where Kubeflow lists several runs.
    """

    id: str
    task: str
    task_json: str
    state: str
    created: datetime
    version: str
    error: str | None
    steps: list[ClusterStep]

    @property
    def ending(self) -> Ending | None:
        """How it ended; None while it is under way."""
        return Ending(state=self.state, error=self.error) if self.state in ENDED else None

    @property
    def under_way(self) -> str:
        """Names of the steps that run now."""
        running = [step.name for step in self.steps if step.ended is None]
        return ", ".join(running) if self.ending is None else ""

    def learned(self) -> FederatedTask:
        """Its task.

        Raises:
            TaskError: it is of another edition of FedEdge.
        """
        return FederatedTask.from_json(self.task_json)


def read(run: Any) -> ClusterRun | None:
    """A run that Kubeflow told of (kfp_server_api's V2beta1Run); None where it is none of FedEdge's."""
    parameters = (run.runtime_config and run.runtime_config.parameters) or {}
    text = parameters.get("task")
    name = _task_name(text)
    if name is None:
        return None
    reference = run.pipeline_version_reference
    return ClusterRun(
        id=run.run_id,
        task=name,
        task_json=str(text),
        state=run.state or "PENDING",
        created=run.created_at,
        version=(reference and reference.pipeline_version_id) or "",
        error=run.error.message if run.error else None,
        steps=list(_steps(run)),
    )


def _task_name(text: object) -> str | None:
    try:
        content = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "learning" not in content:
        return None
    name = content.get("name")
    return name if isinstance(name, str) else None


def _steps(run: Any) -> Iterator[ClusterStep]:
    details = (run.run_details and run.run_details.task_details) or []
    own = [
        each
        for each in details
        if each.display_name
        and each.start_time
        and not INNER.match(each.display_name)
        and not each.display_name.startswith(PREFIX)
    ]
    for each in sorted(own, key=lambda each: each.start_time):
        ended = each.end_time if each.end_time and each.end_time.year > 1 else None
        yield ClusterStep(each.display_name, each.state or "PENDING", each.start_time, ended)
