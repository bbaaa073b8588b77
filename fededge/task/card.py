"""The section `card`: what people say about the model, for its card; it changes nothing that is learned."""

from typing import Annotated

from pydantic import Field

from fededge.task.base import Part

Line = Annotated[str, Field(min_length=1, max_length=200)]


class Card(Part):
    """What the model card of each version says beside what the run knows."""

    license: str = Field("", max_length=200, description="of the model, such as Apache-2.0")
    authors: list[Line] = Field([], max_length=20, description="who answers for it")
    intended_use: str = Field("", max_length=2000, description="for what, and by whom")
    limits: str = Field("", max_length=2000, description="for what it is not fit, and why")
