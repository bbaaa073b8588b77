"""The section `data`: where examples come from, what they are, and which of them are held out."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fededge.task.base import Fraction, Part, Positive
from fededge.task.model import ImportPath

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Word = Annotated[str, Field(max_length=1000)]
"""A value of a column of words, whatever it is made of."""
Path = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A path, relative to the task file, or a URL."""
Pixels = Annotated[int, Field(ge=1, le=4096)]
HELD_OUT = 0.2
"""Share of the examples that is held out where neither the task nor the source says which."""


LabelKind = Literal["class", "multi-label", "number", "sequence", "none"]
HeldBy = Literal["example", "client", "owner", "time"]


class Split(Part):
    """Which examples no client learns from: drawn with the task's seed, and no example is in two parts."""

    by: HeldBy = Field(
        "example", description="what is held out whole: examples, clients, owners, or the latest time"
    )
    test: Fraction = Field(HELD_OUT, description="share that judges the model")
    validation: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="share kept beside it")

    @model_validator(mode="after")
    def _leaves_some(self) -> "Split":
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test {self.test} and validation {self.validation} leave nothing to train on: lower them"
            )
        return self


class Column(Part):
    """The rules of one column of a table."""

    name: Text
    kind: Literal["number", "category"] | None = Field(None, description="default: as the data are")
    unit: str = Field("", max_length=40, description="of its numbers, for people")
    categories: list[Word] = Field([], description="its words, in their order; default: those in the data")
    log: Positive | None = Field(
        None, description="x enters a model as sign(x) ln(1 + |x| / log), for numbers of many magnitudes"
    )
    missing: float | str | None = Field(
        None, description="what stands where nothing is given: a number, `mean`, or a word of its own"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Column":
        if self.categories and self.kind == "number":
            raise ValueError(f"column {self.name} is a number with categories: remove one of the two")
        if self.log and (self.categories or self.kind == "category"):
            raise ValueError(f"column {self.name} has categories, which have no logarithm: remove log")
        if isinstance(self.missing, str) and self.missing != "mean" and self.kind == "number":
            raise ValueError(f"column {self.name} is a number: missing is a number, or `mean`")
        return self


class Described(Part):
    """What a task may say about the examples of any source; the rest is read from the data."""

    kind: LabelKind | None = Field(None, description="of the label")
    classes: list[Word] = Field([], description="names of the classes, in their order")
    split: Split | None = Field(None, description="default: the source's own test set, else a fifth")

    @property
    def owners(self) -> str | None:
        """Where the owner of each example stands, for partition.kind natural."""
        return getattr(self, "owner", None)

    @property
    def fixed(self) -> bool:
        """Whether the same words mean the same examples tomorrow; what lies at a path may change."""
        return False


class Table(Described):
    """Rows and named columns."""

    path: Path = Field(description="path, relative to the task file, or URL")
    label: Text | list[Text] | None = Field(
        None, description="what to predict; none: the features themselves"
    )
    features: list[Column] = Field([], description="columns to learn from; default: all others")
    owner: Text | None = Field(None, description="column that names the owner of each row")
    time: Text | None = Field(None, description="column that says when")
    missing: Literal["refuse", "fill"] = Field(
        "refuse", description="where no rule of its column says: fill takes the mean, or a word of its own"
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Table":
        names = [column.name for column in self.features]
        taken = [*self.labels, *filter(None, [self.owner, self.time])]
        for name in names:
            if names.count(name) > 1 or name in self.labels:
                raise ValueError(f"features names {name} twice, or it is the label: keep one of them")
        if len(set(taken)) != len(taken):
            raise ValueError(f"label, owner and time name a column twice: {', '.join(taken)}")
        return self

    @property
    def labels(self) -> list[str]:
        """Columns to predict."""
        return [self.label] if isinstance(self.label, str) else list(self.label or [])


class CsvData(Table):
    """A CSV file with a header line."""

    source: Literal["csv"]
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        None, description="default: as the header line shows"
    )
    encoding: Text = Field("utf-8", description="of the text, as Python names it")


class ParquetData(Table):
    """A Parquet file."""

    source: Literal["parquet"]


class FoldersData(Table):
    """A folder with a folder for each client: x.npy, y.npy and schema.json, or data.csv, or data.parquet."""

    source: Literal["folders"]

    @model_validator(mode="after")
    def _owned(self) -> "FoldersData":
        if self.owner:
            raise ValueError("in data.source folders each folder is an owner: remove owner")
        return self


class FileData(Described):
    """An .npz file with x_train, y_train, x_test, y_test (Keras's mnist.npz layout), of any shape."""

    source: Literal["npz"]
    path: Path = Field(description="path, relative to the task file, or URL")
    key: Text | None = Field(None, description="array that names each training example's owner (natural)")
    time: Text | None = Field(None, description="array that says when each training example was")
    tokens: bool = Field(False, description="whether x holds the numbers of tokens")

    @property
    def owners(self) -> str | None:
        """See Described."""
        return self.key


class NpyData(Described):
    """Two .npy files: x [n, ...] and y [n, ...]."""

    source: Literal["npy"]
    x: Path
    y: Path | None = Field(None, description="default: the model learns to give back x")
    owner: Path | None = Field(None, description=".npy file with the number of each example's owner")
    time: Path | None = Field(None, description=".npy file that says when each example was")
    tokens: bool = False


class ImagesData(Described):
    """A folder with a folder of image files for each class."""

    source: Literal["images"]
    path: Path
    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)] = Field(
        [32, 32], description="height and width that each image is resized to"
    )
    channels: Literal[1, 3] = Field(3, description="1 is gray, 3 is color")


class Published(Described):
    """A data set that is known by its name, and stays what it is."""

    @property
    def fixed(self) -> bool:
        """See Described."""
        return True


class SklearnData(Published):
    """A data set that comes with scikit-learn; needs no network."""

    source: Literal["sklearn"]
    name: Literal["breast_cancer", "diabetes", "digits", "iris", "wine"]


class KerasData(Published):
    """A data set that Keras downloads, with the test set that it has."""

    source: Literal["keras"]
    name: Literal["boston_housing", "cifar10", "cifar100", "fashion_mnist", "mnist"]


class HuggingFaceData(Described):
    """A data set of Hugging Face; needs the package `datasets`."""

    source: Literal["huggingface"]
    name: Text
    configuration: Text | None = None
    revision: Text | None = None
    feature: Text = Field(description="column to learn from: an image, or numbers of one shape")
    label: Text | None = None
    owner: Text | None = None
    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)] = [32, 32]
    channels: Literal[1, 3] = 3


class FunctionData(Described):
    """A Python function of your own that gives arrays, or an iterator of batches."""

    source: Literal["function"]
    function: ImportPath = Field(description="module:name; it is given `arguments`")
    code: Path | None = Field(None, description="folder with its module, relative to the task file")
    arguments: dict[str, Any] = {}
    tokens: bool = False

    @property
    def owners(self) -> str | None:
        """See Described; whether the function gives owners is seen when it is called."""
        return self.function


class DigitsData(Published):
    """scikit-learn's 1,797 handwritten digits, scaled from 8x8 to 28x28x1; needs no network."""

    source: Literal["digits"]
    holdout: Fraction = Field(HELD_OUT, description="share kept for evaluation, seen by no client")


class KerasMnist(Published):
    """The full MNIST by Keras's downloader."""

    source: Literal["keras-mnist"]


class SyntheticData(Published):
    """Random images with learnable labels, for benchmarks."""

    source: Literal["synthetic"]
    examples: Annotated[int, Field(ge=1, le=10_000_000)] = 60_000
    holdout: Fraction = 0.01


Sources = (
    CsvData
    | DigitsData
    | FileData
    | FoldersData
    | FunctionData
    | HuggingFaceData
    | ImagesData
    | KerasData
    | KerasMnist
    | NpyData
    | ParquetData
    | SklearnData
    | SyntheticData
)
LocalData = Annotated[Sources, Field(discriminator="source")]
"""Examples that are read where the task runs."""


class FleetData(Part):
    """Examples that stay at clients, which a gateway reaches; the coordinator has examples of its own to judge by.

    What an example is, the statistics by which numbers are standardized included, is read from those.
    """

    source: Literal["fleet"]
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = Field(
        description="name under which clients hold their examples"
    )
    held_out: LocalData = Field(description="examples that judge the model: any other source")

    @model_validator(mode="after")
    def _whole(self) -> "FleetData":
        if self.held_out.split:
            raise ValueError(
                "all examples of held_out judge the model, and clients hold their own test sets: remove held_out.split"
            )
        return self


Data = Annotated[Sources | FleetData, Field(discriminator="source")]
