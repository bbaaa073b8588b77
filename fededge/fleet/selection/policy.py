"""What a selection policy is given, and what it gives."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol


@dataclass(frozen=True)
class Candidate:
    """A client that is there and may take part, with what is known of it when a round begins.

    Attributes:
        id: of the client.
        train: training examples that it holds.
        waited: rounds since it was last asked, of this task; since the task began where it never was.
        region: that operators gave it; None: none.
        loss: the mean loss of its last training that counted; None before the first.
        speed: training examples a second, measured over its last rounds; None before the first.
    """

    id: str
    train: int
    waited: int = 0
    region: str | None = None
    loss: float | None = None
    speed: float | None = None


class Policy(Protocol):
    """Chooses the clients of one round.

    One that looks at some of what is known of a candidate alone may say so in an attribute `facts` (see `facts_of`).
    """

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """Ids of `size` different clients of `pool`, or of all where it has fewer.

        Must depend on the arguments alone, and not on the order of `pool`.
        """


FACTS = frozenset(field.name for field in fields(Candidate)) - {"id"}
"""What is known of a candidate beside its id."""


def facts_of(policy: Policy) -> frozenset[str]:
    """Those of FACTS that a policy looks at; the others need not be read for it."""
    return frozenset(getattr(policy, "facts", FACTS))
