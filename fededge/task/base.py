"""What every section of a task has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST = 10**9
"""Largest count that a task may name."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=365 * 86_400, allow_inf_nan=False)]
"""A time to wait: at most a year."""
Count = Annotated[int, Field(ge=1, le=MOST)]


class Part(BaseModel):
    """A strict, immutable part of a task: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
