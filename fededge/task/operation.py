"""The section `operation`: how a run is carried out. It may change when a run is resumed."""

from typing import Annotated

from pydantic import Field

from fededge.task.base import Count, NotNegative, Part, Seconds
from fededge.task.steps import Steps


class Prices(Part):
    """What a run costs, in one currency of your choice; a provider's list tells."""

    gigabyte: NotNegative = Field(0.0, description="transferred between coordinator and clients (10^9 bytes)")
    client_second: NotNegative = Field(0.0, description="of a client's work")
    coordinator_second: NotNegative = Field(0.0, description="of the coordinator, waiting included")

    def cost(self, transferred: int, client_seconds: float, coordinator_seconds: float) -> float:
        """Of so many bytes and seconds."""
        return (
            self.gigabyte * transferred / 1e9
            + self.client_second * client_seconds
            + self.coordinator_second * coordinator_seconds
        )


class Operation(Part):
    """Deadlines, quorum, steps and replicas: what is learned does not depend on them."""

    quorum: Count | None = Field(
        None, description="reports that commit a round; default: learning.cohort.size"
    )
    round_deadline_seconds: Seconds = Field(600.0, description="when a round stops waiting for reports")
    evaluation_deadline_seconds: Seconds = Field(
        600.0, description="when an evaluation stops waiting for clients"
    )
    worker_timeout_seconds: Seconds = Field(
        3600.0, description="longest time that TFF's worker may take for one request"
    )
    retry_seconds: Seconds = Field(
        300.0,
        description="how long a step tries again where a fleet's gateway, or on a cluster MLflow or the store, is away",
    )
    rounds_per_step: Count = Field(5, description="rounds in one pipeline step")
    prices: Prices | None = Field(None, description="by which records tell what a round cost")
    replicas: Annotated[int, Field(ge=1, le=10_000)] = Field(1, description="of the inference endpoint")
    steps: Steps = Field(
        {}, description="what each step gets on a cluster, by its name; `default` is for all of them"
    )
