"""Poisson sampling: each client takes part by a throw of its own, so that cohorts have different sizes.

The sampling that privacy amplification assumes (Abadi et al. 2016, Deep Learning with Differential Privacy (CCS),
section 3.1). By itself it protects nobody.
"""

from collections.abc import Sequence

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.uniform import uniform


class Poisson:
    """Each client with the chance size / clients, independently of all others: `size` clients on average."""

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy; the cohort may be larger or smaller than `size`, and empty."""
        chance = size / len(pool) if pool else 0.0
        return [client.id for client in pool if uniform(seed, round_number, client.id) < chance]
