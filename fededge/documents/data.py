"""Documents about data: what an example looks like, who holds how many, and what may be said about them."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from fededge.documents.base import Count, Digest, Document, Part


class Feature(Part):
    """One array of an example; `shape` is that of one example, without the batch dimension."""

    name: str = Field(min_length=1, max_length=200)
    dtype: Literal["float32", "int64", "uint8", "bool"]
    shape: list[Count] = Field(max_length=8)


class Label(Part):
    """What is to be predicted: one of `classes` classes, whose names may be given."""

    kind: Literal["class"] = "class"
    classes: int = Field(ge=2)
    names: list[str] = []


class Schema(Document):
    """What one example looks like."""

    KIND: ClassVar = "schema"

    features: list[Feature] = Field(min_length=1)
    label: Label

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the only feature, without the batch dimension."""
        (feature,) = self.features
        return tuple(feature.shape)


class ClientCounts(Part):
    """How many examples a client holds; `labels` counts its training examples by class."""

    id: str = Field(min_length=1, max_length=200)
    train: Count
    test: Count
    labels: list[Count] = []


class Population(Document):
    """The clients of a task and their counts: never their examples.

    Attributes:
        clients: in the order of their ids.
        example: what an example looks like.
        examples: training and test examples of all clients together.
        simulated: whether one machine holds all clients' examples and only plays them apart.
        data_digest: of the folder with the simulated clients' examples.
        test_digest: of the held-out examples.
    """

    KIND: ClassVar = "population"
    REMEDY: ClassVar = "Run prepare_data again (`fededge run --fresh`)"

    clients: list[ClientCounts]
    example: Schema
    examples: Count
    simulated: bool
    data_digest: Digest | None = None
    test_digest: Digest | None = None

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 0 knew images only, and called the digest of the folder `digest`."""
        feature = {"name": "image", "dtype": "float32", "shape": content.get("shape", [])}
        return {
            "clients": content["clients"],
            "example": {"features": [feature], "label": {"kind": "class", "classes": content["classes"]}},
            "examples": content["examples"],
            "simulated": True,
            "data_digest": content.get("digest"),
            "test_digest": content.get("test_digest"),
        }


class Selection(Document):
    """From whom and how the cohorts of the coming rounds are selected; the policy chooses when a round begins.

    Attributes:
        policy: name of the selection policy.
        size: clients in a cohort.
        seed: of the policy's random choices.
        pool: the clients that may be selected.
    """

    KIND: ClassVar = "selection"

    policy: str
    size: int = Field(ge=1)
    seed: int = Field(ge=0)
    pool: list[ClientCounts]


class TensorRange(Part):
    """Between which values a tensor of the model lies: a low and a high quantile over examples."""

    name: str = Field(min_length=1, max_length=500)
    low: float
    high: float


class CalibrationRanges(Document):
    """Ranges of the model's input and activations, measured by clients on their own training examples.

    Attributes:
        clients: how many measured.
        examples: on how many examples all in all.
        ranges: the input first, then each activation of the float32 model in the order of its layers.
    """

    KIND: ClassVar = "calibration-ranges"
    REMEDY: ClassVar = "Run evaluate_model again (`fededge run --fresh`)"

    clients: int = Field(ge=1)
    examples: int = Field(ge=1)
    ranges: list[TensorRange] = Field(min_length=1)
