"""What a coordinator asks of a function that trains, whose plan and weights lie in a store that both reach."""

from typing import Annotated, ClassVar

from pydantic import Field

from fededge import storage
from fededge.documents.base import Count, Digest, Document


class FunctionOrder(Document):
    """Train or evaluate, now.

    Attributes:
        plan: digest of the archive of the plan's folder; `weights`: of the weights to do it with.
        seed: of the task, and `round`: number of the round, from which with `client` random choices follow.
        share: of the training examples to learn from.
    """

    KIND: ClassVar = "function-order"
    LIMIT: ClassVar = 1 << 16
    REMEDY: ClassVar = "Send an order of this version"

    plan: Digest
    weights: Digest
    seed: Count = 0
    round: Count = 0
    client: Annotated[str, Field(min_length=1, max_length=200)]
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


def place(store: str, digest: str) -> str:
    """URL of a plan or of weights in the store at the URL `store`."""
    return storage.join(store, digest.removeprefix("sha256:"))
