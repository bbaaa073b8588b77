"""Documents about a pipeline run: its steps and its end."""

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from fededge.documents.base import Digest, Document, NotNegative, Part

FINAL = {
    "SUCCEEDED": "SUCCEEDED",
    "COMPLETE": "SUCCEEDED",
    "CACHED": "SUCCEEDED",
    "CANCELED": "CANCELED",
    "CANCELLED": "CANCELED",
    "SKIPPED": "CANCELED",
}
"""What kfp.local, Kubeflow's exit tasks (states of ML Metadata) and its API call an end that is no failure."""
OUTCOME_LIMIT = 200
"""Characters that tell what came of a run."""


def _in_utc(value: datetime) -> datetime:
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error


Moment = Annotated[datetime, Field(strict=False), AfterValidator(_in_utc)]


class StepRecord(Document):
    """One step of the pipeline: when it started, how long it took and how it ended.

    `reused` names the run whose results Kubeflow's cache gave it; then it took no time of its own.
    """

    KIND: ClassVar = "step"

    step: str
    started: Moment
    seconds: NotNegative
    status: Literal["succeeded", "failed"]
    error: str | None = None
    reused: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the step ended with an error."""
        return self.status == "failed"


def _final(state: str) -> str:
    return FINAL.get(state.upper(), "FAILED")


class Ending(Document):
    """How the pipeline ended, and the platform's message.

    `state` is SUCCEEDED, FAILED or CANCELED, and may be given in the words of platforms (see FINAL). Any other
    word means FAILED: the steps before an exit handler have ended, and Kubeflow may call them RUNNING after a
    failure.
    """

    KIND: ClassVar = "ending"

    state: Annotated[str, AfterValidator(_final)]
    error: str | None = None


class RunRecord(Document):
    """A run on one machine: what it runs, and how far that came.

    Attributes:
        id: its name, also that of its folder.
        task: name of the task; `identity` and `digest` are those of the task as it was last run.
        started: when the run began; a run that goes on keeps it.
        status: `running` until the process that runs it says otherwise, which a killed one never does.
        outcome: what came of it, in one line.
        process: mark of the process that last ran it (fededge.processes.mark).
    """

    KIND: ClassVar = "run"
    LIMIT: ClassVar = 1 << 16
    REMEDY: ClassVar = "Remove its folder, or start a new run (`fededge run --fresh`)"

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]
    task: str
    identity: Digest
    digest: Digest
    started: Moment
    status: Literal["running", "succeeded", "failed", "stopped"]
    outcome: Annotated[str, Field(max_length=OUTCOME_LIMIT)] = ""
    process: str = ""


class StepOutcome(Part):
    """A step of a run on one machine; `artifacts` are paths by the name of the output."""

    started: Moment
    seconds: NotNegative
    status: Literal["running", "succeeded", "failed"]
    artifacts: dict[str, str] = {}


class Steps(Document):
    """The steps of a run on one machine, by name."""

    KIND: ClassVar = "steps"
    LIMIT: ClassVar = 1 << 24
    REMEDY: ClassVar = "Start a new run (`fededge run --fresh`)"

    steps: dict[str, StepOutcome] = {}
