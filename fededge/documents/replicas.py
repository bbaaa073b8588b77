"""What a coordinator and the replicas of its workers say to each other, by way of a store."""

import json
from typing import Any, ClassVar, Literal

from pydantic import Field

from fededge import storage
from fededge.documents.base import Count, Digest, Document, NotNegative


class Shards(Document):
    """Which clients there are, and where what they need lies.

    The client that comes n-th by its id (from 0) belongs to replica n modulo the number of replicas.

    Attributes:
        plan: of the archive of the plan's folder.
        archives: URL of the folder with the archives of clients' folders, `<hex digest>.zip` each.
        clients: digest of the archive by id; None where the client's folder is at the replica already.
    """

    KIND: ClassVar = "shards"

    plan: Digest
    archives: str
    clients: dict[str, Digest | None]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each client, from 0 in the order of their ids."""
        return {client: number for number, client in enumerate(sorted(self.clients))}


class ReplicaOrder(Document):
    """What the replicas are to do now.

    Attributes:
        do: with each of `clients` that is the replica's; with `rest`, nothing.
        weights: digest of the weights to do it with.
        seed: of the task, and `round`: number of the round, from which a client's random choices in training follow.
        clients: ids.
        token: tells an order that is given again, after a coordinator was lost, from the one before.
    """

    KIND: ClassVar = "replica-order"

    do: Literal["rest", "train", "evaluate", "ranges"]
    token: str = Field(min_length=1)
    weights: Digest | None = None
    seed: Count = 0
    round: Count = 0
    clients: list[str] = []

    @property
    def folder(self) -> str:
        """Name of the folder with the answers: that of every order whose answers would be the same."""
        asked = json.dumps([self.do, self.weights, self.seed, self.round]).encode()
        return f"{self.do}-{storage.digest(asked).removeprefix('sha256:')[:32]}"


class ReplicaReport(Document):
    """What came of an order at one client; nobody has screened it.

    Attributes:
        failure: why there is no answer; None where there is one. The answer to `train` is an update beside it.
        counts: the answer to `evaluate`; `ranges`: to `ranges`.
        seconds: that the client worked.
    """

    KIND: ClassVar = "replica-report"
    LIMIT: ClassVar = 1 << 20

    failure: str | None = None
    counts: dict[str, Any] | None = None
    ranges: dict[str, Any] | None = None
    seconds: NotNegative = 0.0
