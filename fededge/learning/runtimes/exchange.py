"""The folder of a store by which a coordinator and the replicas of its workers reach each other.

shards.json  plan.zip        what does not change, under digests that replicas are started with
order.json                   what is to be done now; replicas look here
<order's folder>/weights
                 begun/      an empty file a try
                 updates/    what clients hand in
                 reports/    what came of each client, written when its update is whole
"""

import re
from collections import Counter
from dataclasses import dataclass

from fededge import storage
from fededge.documents import ReplicaOrder, ReplicaReport, Shards

BEGUN = re.compile(r"([0-9]{7,12})-[0-9]{1,6}")
REPORT = re.compile(r"([0-9]{7,12})\.json")


@dataclass(frozen=True)
class Exchange:
    """The exchange in the folder `root`, a URL. A client is named by its number in `Shards`.

    All methods raise StorageError where the store cannot be reached.
    """

    root: str

    @property
    def shards(self) -> str:
        """URL of the document Shards."""
        return storage.join(self.root, "shards.json")

    @property
    def plan(self) -> str:
        """URL of the plan's archive."""
        return storage.join(self.root, "plan.zip")

    def read_shards(self, digest: str) -> Shards:
        """The document Shards.

        Raises:
            IntegrityError: it has another digest.
        """
        return Shards.from_bytes(storage.read_verified(self.shards, digest, Shards.LIMIT), self.shards)

    def read_order(self) -> ReplicaOrder:
        """What is to be done now.

        Raises:
            DocumentError: it is malformed.
        """
        return ReplicaOrder.read(storage.join(self.root, "order.json"))

    def give(self, order: ReplicaOrder) -> None:
        """Let `order` take the place of the one before."""
        order.write(storage.join(self.root, "order.json"))

    def folder(self, order: ReplicaOrder) -> str:
        """URL of the folder of an order."""
        return storage.join(self.root, order.folder)

    def weights(self, order: ReplicaOrder) -> str:
        """URL of the weights of an order."""
        return storage.join(self.folder(order), "weights")

    def update(self, order: ReplicaOrder, number: int) -> str:
        """URL of the update of client `number`."""
        return storage.join(self.folder(order), "updates", f"{number:07d}")

    def begun(self, order: ReplicaOrder) -> Counter[int]:
        """How often a replica began with each client."""
        names = storage.names(storage.join(self.folder(order), "begun"))
        return Counter(int(found[1]) for found in map(BEGUN.fullmatch, names) if found)

    def begin(self, order: ReplicaOrder, number: int, attempt: int) -> None:
        """Note that a replica begins with client `number` for the `attempt`-th time, from 1."""
        storage.write(storage.join(self.folder(order), "begun", f"{number:07d}-{attempt}"), b"begun")

    def reported(self, order: ReplicaOrder) -> set[int]:
        """Numbers of the clients whose report is there."""
        names = storage.names(storage.join(self.folder(order), "reports"))
        return {int(found[1]) for found in map(REPORT.fullmatch, names) if found}

    def read_report(self, order: ReplicaOrder, number: int) -> ReplicaReport:
        """The report on client `number`.

        Raises:
            DocumentError: it is malformed.
        """
        return ReplicaReport.read(self._report(order, number))

    def report(self, order: ReplicaOrder, number: int, report: ReplicaReport) -> None:
        """Hand in the report on client `number`."""
        report.write(self._report(order, number))

    def forget(self, order: ReplicaOrder, number: int) -> None:
        """Let client `number` count as one that was never tried."""
        storage.remove(self._report(order, number))
        for attempt in range(1, self.begun(order)[number] + 1):
            storage.remove(storage.join(self.folder(order), "begun", f"{number:07d}-{attempt}"))

    def _report(self, order: ReplicaOrder, number: int) -> str:
        return storage.join(self.folder(order), "reports", f"{number:07d}.json")
