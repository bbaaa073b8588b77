"""How much of its data each client learns from in a round, so that slow ones contribute, too.

Computing differs between the devices of a fleet by orders of magnitude, and a framework that is to use all of it
allocates work by what a device can do (Hassan, Custode, Yildirim and Iacca 2023, FedEdge: Federated Learning with Docker
and Kubernetes for Scalable and Efficient Edge Computing, sections 1 and 3, which names the need and no algorithm).
Here: a client whose examples would take longer than the round learns from a random part of them. Updates are weighted by
their examples, so that a part counts as a part (partial work: Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith 2020,
Federated Optimization in Heterogeneous Networks (MLSys), section 3.2).
"""

from collections.abc import Iterable
from typing import Protocol

ROOM = 0.7
"""Share of the deadline that training is planned for; the rest is for transfer, and for what a slow day costs."""
FEWEST = 32
"""Examples below which no share goes, where a client has as many: less teaches little and costs as much transfer."""


class Measured(Protocol):
    """A client as far as its share goes."""

    @property
    def id(self) -> str:
        """Of the client."""

    @property
    def train(self) -> int:
        """Training examples that it holds."""

    @property
    def speed(self) -> float | None:
        """Its examples that a round takes a second for, all epochs included; None before it was measured."""


def shares(clients: Iterable[Measured], deadline_seconds: float) -> dict[str, float]:
    """The share of its training examples that each client learns from, where it is less than all of them.

    A client that was never measured is taken for as slow as the slowest of the others: one that is given too much misses
    the deadline, and stays unmeasured. Where nobody was measured, each is given all.

    Args:
        clients: of a round.
        deadline_seconds: of the round.
    """
    cohort = list(clients)
    slowest = min((client.speed for client in cohort if client.speed), default=None)
    found = {}
    for client in cohort:
        speed = client.speed or slowest
        if speed is None or client.train == 0:
            continue
        most = max(speed * ROOM * deadline_seconds, FEWEST)
        if most < client.train:
            found[client.id] = most / client.train
    return found
