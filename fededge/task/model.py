"""The section `model`: what is trained."""

from typing import Annotated, Literal

from pydantic import Field

from fededge.task.base import Part


class Model(Part):
    """The model to learn. `cnn` has 317,066 parameters: fededge/learning/models/cnn.py cites its source."""

    name: Literal["cnn"] = "cnn"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
