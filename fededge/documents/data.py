"""Documents about data: what an example looks like, who holds how many, and what may be said about them."""

import json
import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fededge import storage
from fededge.documents.base import Count, Digest, Document, Part

Numbers = list[float]
Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(max_length=8)]


class Feature(Part):
    """One array of an example, or one column of a table.

    Attributes:
        name: of the column or array.
        dtype: uint8 holds levels: 0 to 255 stand for 0 to 1, as in images.
        shape: of one example, without the batch dimension; [] for a column.
        unit: of its numbers, such as C or lx; for people.
        categories: of a column of words; a word is held as its place in this list.
        missing: what stands where nothing was given; None where that is refused. A place in `categories`, if any.
        log: a number x enters a model as sign(x) ln(1 + |x| / log), for numbers of many magnitudes; None leaves it.
        mean: numbers enter a model (after that) less their mean and by their standard deviation `std`; None leaves them.
    """

    name: str = Field(min_length=1, max_length=200)
    dtype: Literal["float32", "int64", "uint8", "bool"]
    shape: Sizes
    unit: str = Field("", max_length=40)
    categories: list[str] = []
    missing: float | None = None
    log: Annotated[float, Field(gt=0)] | None = None
    mean: float | None = None
    std: Annotated[float, Field(gt=0)] | None = None

    @property
    def size(self) -> int:
        """Numbers in one example."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Numbers by which a model sees it: a category is one of as many as there are."""
        return len(self.categories) or self.size


class Label(Part):
    """What is to be predicted.

    | kind | of one example | the model's outputs |
    |---|---|---|
    | class | one of `classes` | `classes` probabilities |
    | multi-label | for each of `classes` whether it holds, 0 or 1 | `classes` probabilities |
    | number | numbers of `shape` | as many numbers |
    | sequence | one of `classes` for each of the steps in `shape` | steps x classes probabilities |
    | none | nothing: the model learns to give back what it is given | the encoded features |

    Attributes:
        names: of the classes, in their order.
        name: of what is predicted, such as the column; `unit`: of its numbers.
        mean: by output, of the numbers; with `std` a model learns them standardized. Empty leaves them.
    """

    kind: Literal["class", "multi-label", "number", "sequence", "none"] = "class"
    classes: Count = 0
    names: list[str] = []
    shape: Sizes = []
    name: str = Field("", max_length=200)
    unit: str = Field("", max_length=40)
    mean: Numbers = []
    std: list[Annotated[float, Field(gt=0)]] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fewest = {"class": 2, "multi-label": 1, "sequence": 2}.get(self.kind, 0)
        if self.classes < fewest or (self.classes and not fewest):
            raise ValueError(
                f"a label of kind {self.kind} has {self.classes} classes: {fewest or 'none'} at least"
            )
        if self.names and len(self.names) != self.classes:
            raise ValueError(f"{len(self.names)} names for {self.classes} classes")
        if self.kind == "sequence" and len(self.shape) != 1:
            raise ValueError("the shape of a label of kind sequence is [steps]")
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, math.prod(self.shape)):
            raise ValueError("mean and std hold one number for each output")
        return self

    @property
    def dtype(self) -> str:
        """Of the stored labels."""
        return "int64" if self.kind in ("class", "sequence") else "float32"

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of one example's stored label."""
        return (self.classes,) if self.kind == "multi-label" else tuple(self.shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of what a model gives for one example; () where the label is none."""
        if self.kind == "number":
            return (math.prod(self.shape),)
        if self.kind == "sequence":
            return (*self.shape, self.classes)
        return (self.classes,) if self.classes else ()


class Schema(Document):
    """What one example looks like.

    An example is one array: the only feature's, or all features side by side in their order, flat.
    """

    KIND: ClassVar = "schema"
    VERSION: ClassVar = 2
    REMEDY: ClassVar = "Prepare the data again"

    features: list[Feature] = Field(min_length=1)
    label: Label

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError(f"features name {max(names, key=names.count)!r} twice")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch dimension."""
        if len(self.features) == 1:
            return tuple(self.features[0].shape) or (1,)
        return (sum(feature.size for feature in self.features),)

    @property
    def dtype(self) -> str:
        """Of stored examples: uint8 where the only feature holds levels, else float32."""
        only = self.features[0] if len(self.features) == 1 else None
        return "uint8" if only and only.dtype == "uint8" else "float32"

    @property
    def form(self) -> dict[str, Any]:
        """What examples must have in common to be learned from together: all but what was measured on them."""
        measured = {"mean", "std"}
        return self.model_dump(
            mode="json",
            exclude={"features": {"__all__": {*measured, "missing", "log"}}, "label": measured},
        )

    @property
    def form_digest(self) -> str:
        """Digest of the form."""
        return storage.digest(json.dumps(self.form, sort_keys=True).encode())

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Shape of what a model sees of one example: words as one of as many as there are (one-hot)."""
        if any(feature.categories for feature in self.features):
            return (sum(feature.width for feature in self.features),)
        return self.shape

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for one example."""
        return math.prod(self.label.output_shape or self.encoded_shape)


class ClientCounts(Part):
    """How many examples a client holds; `labels` counts its training examples by class."""

    id: str = Field(min_length=1, max_length=200)
    train: Count
    test: Count
    labels: list[Count] = []


class HeldOut(Part):
    """Which examples nobody learns from.

    Attributes:
        by: what was held out whole: example, client, owner or time; source: the test set that the source has.
        seed: that it was drawn with.
        test: how many examples judge the model; `validation`: how many are kept beside them.
        clients: that were held out, where `by` is client.
    """

    by: Literal["example", "client", "owner", "time", "source"]
    seed: Count
    test: Count
    validation: Count = 0
    clients: list[str] = []


class Population(Document):
    """The clients of a task and their counts: never their examples.

    Attributes:
        clients: in the order of their ids; of a large fleet the first of them.
        count: how many clients there are, where more than are listed.
        example: what an example looks like.
        examples: training and test examples of all clients together.
        simulated: whether one machine holds all clients' examples and only plays them apart.
        data_digest: of the folder with the simulated clients' examples.
        test_digest: of the held-out examples.
        held_out: how they were held out.
    """

    KIND: ClassVar = "population"
    VERSION: ClassVar = 3
    REMEDY: ClassVar = "Run prepare_data again (`fededge run --fresh`)"

    clients: list[ClientCounts]
    count: Count | None = None
    example: Schema
    examples: Count
    simulated: bool
    data_digest: Digest | None = None
    test_digest: Digest | None = None
    held_out: HeldOut | None = None

    @property
    def size(self) -> int:
        """How many clients there are, listed or not."""
        return len(self.clients) if self.count is None else self.count

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int) -> dict[str, Any]:
        """Version 0 knew images only, and called the digest of the folder `digest`."""
        if version > 0:
            return super().upgraded(content, version)
        feature = {"name": "image", "dtype": "float32", "shape": content.get("shape", [])}
        return {
            "clients": content["clients"],
            "example": {"features": [feature], "label": {"kind": "class", "classes": content["classes"]}},
            "examples": content["examples"],
            "simulated": True,
            "data_digest": content.get("digest"),
            "test_digest": content.get("test_digest"),
        }


class Elsewhere(Document):
    """What lies in place of the folders of clients whose examples are their own: where those are.

    Attributes:
        gateway: URL of the gateway that reaches the clients.
        dataset: the name under which they hold their examples.
        clients: how many do; `examples`: of all of them together.
    """

    KIND: ClassVar = "elsewhere"
    REMEDY: ClassVar = Population.REMEDY

    gateway: str
    dataset: str
    clients: Count
    examples: Count


class Selection(Document):
    """From whom and how the cohorts of the coming rounds are selected; the policy chooses when a round begins.

    Attributes:
        policy: name of the selection policy, or module:name of one of the user's own.
        code: digest of the bundle with that module, or its folder.
        weights: of the policies that a weighted one combines.
        size: clients that are asked in a round.
        seed: of the policy's random choices.
        pool: the clients that may be selected; empty where a gateway selects, which knows them.
    """

    KIND: ClassVar = "selection"
    VERSION: ClassVar = 2
    REMEDY: ClassVar = "Run select_cohort again (`fededge run --fresh`)"

    policy: str
    code: str | None = None
    weights: dict[str, float] = {}
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
