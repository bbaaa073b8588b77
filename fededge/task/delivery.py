"""The sections about delivery: comparison, gate, variants, device classes and endpoint."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from fededge.kinds import Kind, Runtime, runtime_of
from fededge.task.base import Count, Name, NotNegative, Part, Positive, Seconds

Metric = Annotated[str, Field(min_length=1, max_length=200)]
"""Name of a metric, or module:function."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", max_length=20)]
"""A Kubernetes quantity, such as 250m of CPU or 256Mi of memory."""


def renamed(content: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """`content` with its key `old` called `new`."""
    return {new if key == old else key: value for key, value in content.items()}


class Compare(Part):
    """What the federated model is held against."""

    centralized: bool = Field(
        False, description="train on all clients' examples together, too; only in a simulated population"
    )
    alone: bool = Field(False, description="train at each client alone, too; only in a simulated population")


class Evaluation(Part):
    """How the trained model is evaluated."""

    clients: Count | None = Field(
        None,
        description="most clients that evaluate it, drawn anew each time; default: all, but 1,000 of a fleet",
    )
    metrics: list[Metric] = Field(
        [],
        max_length=20,
        description="beyond the usual ones: of sklearn.metrics, keras.NAME, torchmetrics.NAME, or module:function",
    )


class Gate(Part):
    """What a trained model must reach before it is shipped.

    Tasks of version 0.1 knew accuracy alone, and wrote `min_accuracy`.
    """

    metric: Metric | None = Field(None, description="default: accuracy, or r2 where numbers are predicted")
    min: float | None = Field(
        None, description="least value; default: 0.9 where neither another metric nor max is named"
    )
    max: float | None = Field(None, description="largest value, for metrics of which less is better")
    max_gap_to_centralized: NotNegative | None = Field(
        None, description="how much worse than centralized training it may be; needs compare.centralized"
    )
    max_loss_against_champion: NotNegative = Field(0.01, description="how much worse it may be")
    replace: Literal["better", "not_worse"] = Field(
        "not_worse",
        description="better: the champion stays unless a paired test says that the model is better",
    )
    min_examples: Count | None = Field(None, description="fewest held-out examples that it is judged on")

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = renamed(content, "min_accuracy", "min")
        if (
            "min" not in content
            and content.get("max") is None
            and content.get("metric") in (None, "accuracy")
        ):
            return {**content, "min": 0.9}
        return content


class Variant(Part):
    """One build of the model and the gate it must pass."""

    kind: Kind
    max_score_loss: NotNegative = Field(0.01, description="how far its score may be behind the model's")
    max_bytes: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_older_tasks(cls, content: Any) -> Any:
        return (
            renamed(content, "max_accuracy_loss", "max_score_loss") if isinstance(content, dict) else content
        )


class DeviceClass(Part):
    """A class of devices and its limits; each gets the variant that fits and is most accurate."""

    name: Name
    runtime: Runtime = Field("litert", description="what it executes: it gets variants for that alone")
    kinds: list[Kind] | None = Field(None, description="kinds its runtime can execute; default: all")
    max_bytes: Count | None = Field(None, description="largest model file that fits its memory")
    max_latency_ms: Positive | None = Field(None, description="largest latency for one example")

    @model_validator(mode="after")
    def _of_its_runtime(self) -> "DeviceClass":
        for kind in self.kinds or []:
            if runtime_of(kind) != self.runtime:
                raise ValueError(
                    f"kinds lists {kind}, which runtime {self.runtime} does not execute: say runtime {runtime_of(kind)}, "
                    "or list others"
                )
        return self


class Resources(Part):
    """What a model server asks of its node, and its limits."""

    cpu: Quantity = "250m"
    memory: Quantity = "256Mi"
    cpu_limit: Quantity | None = "1"
    memory_limit: Quantity = "1Gi"


class Prometheus(Part):
    """A query by which KEDA scales."""

    server: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=500)]
    query: Annotated[str, Field(min_length=1, max_length=2000)]
    threshold: Positive = Field(description="value of the query for each replica")


class Autoscale(Part):
    """How many servers there are: by the CPU that they use, or by a query of KEDA's."""

    max_replicas: Annotated[int, Field(ge=1, le=10_000)]
    cpu_percent: Annotated[int, Field(ge=1, le=1000)] = Field(80, description="of the CPU asked for")
    prometheus: Prometheus | None = Field(None, description="instead of CPU; needs KEDA")


def _service_name(name: str) -> str:
    if name[0].isdigit():
        raise ValueError(
            f"the name of an endpoint becomes that of a Kubernetes service, which begins with a letter: call it m-{name}"
        )
    return name


class Endpoint(Part):
    """The inference endpoint on Seldon; all but `name` and `variant` is for a cluster."""

    name: Annotated[Name, AfterValidator(_service_name)]
    variant: Kind = "float32"
    canary_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    namespace: Name = "default"
    executor: bool = Field(False, description="put Seldon's executor before the server")
    resources: Resources = Resources()
    autoscale: Autoscale | None = None
    min_available: Count | None = Field(None, description="servers that a PodDisruptionBudget keeps")
    spread: Literal["node", "zone"] | None = Field(None, description="what servers are spread over")
    start_seconds: Annotated[int, Field(ge=2, le=3600)] = Field(120, description="to load the model")
    patience_seconds: Seconds = Field(45.0, description="for what does not heal by itself")
    deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(600, description="to roll out in all")
