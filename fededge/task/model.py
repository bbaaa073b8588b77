"""The section `model`: what is trained."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fededge.errors import shown
from fededge.task.base import Part

IMPORT = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
ImportPath = Annotated[str, Field(pattern=IMPORT, max_length=200)]
"""Where a function lies: module:name."""
Folder = Annotated[str, Field(min_length=1, max_length=2000)]
"""With modules of the user's own, relative to the task file; once packed, the digest of their bundle."""


class Model(Part):
    """The model to learn: one that ships, by its name, or one of your own, by the function that makes it.

    The function is given the examples' schema and `arguments`; docs/guides/models.md tells what it gives back.
    """

    framework: Literal["keras", "sklearn", "torch"] = "keras"
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,59}$")] | None = Field(
        None, description="of a model that ships; default: cnn"
    )
    factory: ImportPath | None = Field(None, description="module:function that makes the model")
    code: Folder | None = Field(
        None, description="folder with the modules of `factory`, relative to the task file"
    )
    arguments: dict[str, Any] = Field({}, description="of the model, such as {hidden: [64, 32]}")
    loss: str | None = Field(None, description="name of a loss of the framework, or module:function")
    weights: str | None = Field(
        None,
        description="weights to start from: a safetensors file or a checkpoint (.keras, .h5, .pt), relative to the task "
        "file, or models:/NAME@champion",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_older_tasks(cls, content: Any) -> Any:
        """Tasks of version 0.1 gave the dropout of the CNN beside its name."""
        if isinstance(content, dict) and "dropout" in content:
            rest = {key: value for key, value in content.items() if key != "dropout"}
            return {**rest, "arguments": {"dropout": content["dropout"], **rest.get("arguments", {})}}
        return content

    @model_validator(mode="after")
    def _one_model(self) -> "Model":
        if self.name and self.factory:
            raise ValueError("model names both name and factory: keep one of them")
        if self.code and not self.factory:
            raise ValueError("model.code is the folder of model.factory: name the function, too")
        try:
            json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"model.arguments holds what JSON cannot: {shown(str(error))}. Give finite numbers, text, lists and maps"
            ) from error
        return self

    @property
    def shown(self) -> str:
        """The model in a word."""
        return self.factory or self.name or "cnn"
