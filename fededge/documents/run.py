"""Documents about a pipeline run: its steps and its end."""

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from fededge.documents.base import Document, NotNegative


def _in_utc(value: datetime) -> datetime:
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error


Moment = Annotated[datetime, Field(strict=False), AfterValidator(_in_utc)]


class StepRecord(Document):
    """One step of the pipeline: when it started, how long it took and how it ended."""

    KIND: ClassVar = "step"

    step: str
    started: Moment
    seconds: NotNegative
    status: Literal["succeeded", "failed"]
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the step ended with an error."""
        return self.status == "failed"


class Ending(Document):
    """How the pipeline ended: SUCCEEDED, FAILED or CANCELED, and the platform's message."""

    KIND: ClassVar = "ending"

    state: str
    error: str | None = None
