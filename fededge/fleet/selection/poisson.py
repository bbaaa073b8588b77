"""Poisson sampling: each client takes part by a throw of its own, so that cohorts have different sizes.

The sampling that privacy amplification assumes (Abadi et al. 2016, Deep Learning with Differential Privacy (CCS),
section 3.1). By itself it protects nobody.
"""

from collections.abc import Sequence

import numpy as np

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.pool import Pool


class Poisson:
    """Each client with the chance size / clients, independently of all others: `size` clients on average."""

    facts: frozenset[str] = frozenset()

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy; the cohort may be larger or smaller than `size`, and empty."""
        candidates = Pool.of(pool)
        chance = size / len(candidates) if len(candidates) else 0.0
        return candidates.ids(np.flatnonzero(candidates.drawn(seed, round_number) < chance))
