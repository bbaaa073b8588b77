"""What conditions of tasks are over at a relay: the machine, and how many examples no round has learned from yet.

A dataset that has reached its limits does not grow, so its size does not tell that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fededge.device.monitor import Monitor
from fededge.device.relay.datasets import Datasets
from fededge.eligibility import NEW_EXAMPLES


@dataclass(frozen=True)
class CollectingMonitor:
    """The monitor of a machine that collects.

    Attributes:
        machine: its own; datasets: what is made of what it collects.
    """

    machine: Monitor
    datasets: Datasets

    def read(self) -> Mapping[str, str]:
        """See Monitor."""
        return {NEW_EXAMPLES: str(self.datasets.new_examples), **self.machine.read()}

    def mistake(self) -> str | None:
        """See Monitor."""
        return self.machine.mistake()
