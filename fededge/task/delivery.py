"""The sections about delivery: comparison, gate, variants, device classes and endpoint."""

from typing import Annotated, Literal

from pydantic import Field

from fededge.task.base import Count, Name, Part, Positive, Share

Kind = Literal[
    "float32",
    "float16",
    "dynamic-int8",
    "int8",
]


class Compare(Part):
    """What the federated model is held against."""

    centralized: bool = Field(
        False, description="train on all clients' examples together, too; only in a simulated population"
    )


class Gate(Part):
    """What a trained model must reach before it is shipped."""

    min_accuracy: Share = 0.9
    max_gap_to_centralized: Share | None = Field(
        None, description="most accuracy lost against centralized training; needs compare.centralized"
    )
    max_loss_against_champion: Share = 0.01


class Variant(Part):
    """One build of the model and the gate it must pass."""

    kind: Kind
    max_accuracy_loss: Share = 0.01
    max_bytes: Count | None = None


class DeviceClass(Part):
    """A class of devices and its limits; each gets the variant that fits and is most accurate."""

    name: Name
    runtime: Literal["litert"] = "litert"
    kinds: list[Kind] | None = Field(None, description="kinds its runtime can execute; default: all")
    max_bytes: Count | None = Field(None, description="largest model file that fits its memory")
    max_latency_ms: Positive | None = Field(None, description="largest latency for one example")


class Endpoint(Part):
    """The inference endpoint on Seldon."""

    name: Name
    variant: Kind = "float32"
    canary_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    namespace: Name = "default"
