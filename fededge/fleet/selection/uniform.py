"""Uniform selection: every client is as likely as any other.

Out of a window of the pool (`fededge.fleet.selection.window`), which is all of it up to 1,024 clients, those with the
smallest random numbers are in. Of up to as many clients every cohort of the size is equally likely.
"""

from collections.abc import Sequence

import numpy as np

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.pool import Pool
from fededge.fleet.selection.window import window


class Uniform:
    """The clients with the smallest random numbers."""

    facts: frozenset[str] = frozenset()

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        candidates = Pool.of(pool)
        near = candidates.at(window(candidates.columns["id"], size, seed, round_number))
        drawn = near.drawn(seed, round_number)
        return near.ids(np.lexsort((near.columns["id"], drawn))[:size])
