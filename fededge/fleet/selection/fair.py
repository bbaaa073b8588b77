"""Fair selection: who has waited longer is more likely, and nobody waits for ever."""

import math
from collections.abc import Sequence

import numpy as np

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.pool import Pool
from fededge.fleet.selection.sampling import smallest, weighted

PATIENCE = 2
"""Turns after which a client goes before all that are drawn."""


class Fair:
    """A client's chance grows with the rounds since it was last asked; who is overdue is in before anybody is drawn.

    A turn is ceil(clients / size) rounds, in which everybody could be asked once. Who waited PATIENCE turns is overdue,
    and the longest waiting goes first. So of clients that are all there all the time, none waits for more than
    PATIENCE + 1 turns.
    """

    facts = frozenset({"waited"})

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        candidates = Pool.of(pool)
        waited = candidates.columns["waited"]
        turn = math.ceil(len(candidates) / size)
        late = np.flatnonzero(waited >= PATIENCE * turn)
        first = late[smallest(-waited[late], size)]
        order = np.lexsort((candidates.columns["id"][first], -waited[first]))
        overdue = first[order][:size]
        rest = candidates.at(np.delete(np.arange(len(candidates)), overdue)) if len(overdue) else candidates
        drawn = weighted(rest, 1.0 + rest.columns["waited"], size - len(overdue), seed, round_number)
        return candidates.ids(overdue) + drawn
