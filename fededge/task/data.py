"""The sections `data` and `partition`: where examples come from, and who holds them."""

from typing import Annotated, Literal

from pydantic import Field

from fededge.task.base import MOST, Fraction, Part


class DigitsData(Part):
    """scikit-learn's 1,797 handwritten digits, scaled from 8x8 to 28x28x1; needs no network."""

    source: Literal["digits"]
    holdout: Fraction = Field(0.2, description="share kept for evaluation, seen by no client")


class FileData(Part):
    """An .npz file with x_train, y_train, x_test, y_test (Keras's mnist.npz layout)."""

    source: Literal["npz"]
    path: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")] = Field(
        description="path, relative to the task file, or URL"
    )
    key: str | None = Field(None, description="array that names each training example's owner (natural)")


class KerasMnist(Part):
    """The full MNIST by Keras's downloader."""

    source: Literal["keras-mnist"]


class SyntheticData(Part):
    """Random images with learnable labels, for benchmarks."""

    source: Literal["synthetic"]
    examples: Annotated[int, Field(ge=1, le=10_000_000)] = 60_000
    holdout: Fraction = 0.01


Data = Annotated[DigitsData | FileData | KerasMnist | SyntheticData, Field(discriminator="source")]


class Partition(Part):
    """How the training examples are spread over clients."""

    kind: Literal["iid", "dirichlet", "natural"] = "dirichlet"
    clients: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        3, description="population; with natural, the number of keys wins"
    )
    alpha: Annotated[float, Field(gt=0, le=MOST)] = Field(
        0.5, description="Dirichlet concentration: smaller is more skewed"
    )
    local_holdout: Fraction = Field(0.1, description="share of each client's data for its own evaluation")
    min_examples: Annotated[int, Field(ge=2, le=MOST)] = Field(
        10, description="fewest examples a client may get"
    )
