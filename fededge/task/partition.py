"""The section `partition`: who holds which examples."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fededge.task.base import MOST, Fraction, Part

BY_OWNER = ("natural", "column")
"""Kinds of partition whose clients are those that the data name."""


class Partition(Part):
    """How the training examples are spread over clients."""

    kind: Literal["iid", "dirichlet", "natural", "column", "shards", "quantity", "time"] = "dirichlet"
    clients: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        3, description="population; with natural and column, the number of owners wins"
    )
    alpha: Annotated[float, Field(gt=0, le=MOST)] = Field(
        0.5, description="Dirichlet concentration: smaller is more skewed"
    )
    shards: Annotated[int, Field(ge=1, le=1000)] = Field(2, description="shards of a client (shards)")
    column: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="column of the table that names the client (column)"
    )
    local_holdout: Fraction = Field(0.1, description="share of each client's data for its own evaluation")
    min_examples: Annotated[int, Field(ge=2, le=MOST)] = Field(
        10, description="fewest examples a client may get"
    )

    @model_validator(mode="after")
    def _column_named(self) -> "Partition":
        if (self.kind == "column") != (self.column is not None):
            raise ValueError("partition.kind column and partition.column go together: give both or none")
        return self
