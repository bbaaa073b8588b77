"""The section `operation`: how a run is carried out. It may change when a run is resumed."""

from typing import Annotated

from pydantic import Field

from fededge.task.base import Count, Part, Seconds
from fededge.task.steps import Steps


class Operation(Part):
    """Deadlines, quorum, steps and replicas: what is learned does not depend on them."""

    quorum: Count | None = Field(None, description="reports that commit a round; default: the whole cohort")
    round_deadline_seconds: Seconds = Field(600.0, description="when a round stops waiting for reports")
    evaluation_deadline_seconds: Seconds = Field(
        600.0, description="when an evaluation stops waiting for clients"
    )
    worker_timeout_seconds: Seconds = Field(
        3600.0, description="longest time that TFF's worker may take for one request"
    )
    retry_seconds: Seconds = Field(
        300.0, description="how long a step on a cluster tries again where MLflow or the store is away"
    )
    rounds_per_step: Count = Field(5, description="rounds in one pipeline step")
    replicas: Annotated[int, Field(ge=1, le=10_000)] = Field(1, description="of the inference endpoint")
    steps: Steps = Field(
        {}, description="what each step gets on a cluster, by its name; `default` is for all of them"
    )
