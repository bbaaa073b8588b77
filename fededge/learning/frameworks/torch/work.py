"""What a PyTorch client does, as JSON: the model, of which the code lies beside it as a signed bundle, and the work."""

from typing import ClassVar

from pydantic import Field

from fededge.documents.base import Document
from fededge.task import ClientOptimizer, Model


class Work(Document):
    """A client's work, beside plan.json.

    Attributes:
        model: the task's section; its code is the digest of a bundle in the plan's folder, or a folder of this machine.
        seed: of the task.
        client: the work of a round.
    """

    KIND: ClassVar = "torch-work"
    REMEDY: ClassVar = "Run initialize_model again (`fededge run --fresh`)"

    model: Model
    seed: int = Field(ge=0)
    client: ClientOptimizer
