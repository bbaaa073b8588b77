"""Selection by data size: who holds more examples takes part more often.

Sampling in proportion to the examples, as scheme I of Li, Huang, Yang, Wang and Zhang 2020, On the Convergence of FedAvg
on Non-IID Data (ICLR), but without replacement. The mean weighs updates by their examples, too: large clients count
twice, which is a bias that may be wanted.
"""

from collections.abc import Sequence

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.pool import Pool
from fededge.fleet.selection.sampling import weighted


class DataSize:
    """Each client with a chance in proportion to its training examples."""

    facts = frozenset({"train"})

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        candidates = Pool.of(pool)
        return weighted(candidates, candidates.columns["train"], size, seed, round_number)
