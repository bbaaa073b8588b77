"""Guided selection: clients whose examples still teach the model, and that are quick about it.

Lai, Zhu, Madhyastha and Chowdhury 2021, Oort: Efficient Federated Learning via Guided Participant Selection (OSDI),
section 4 and algorithm 1. It differs in three points, since a policy here keeps no state and sees no loss of a single
example: the statistical utility takes the mean loss in place of the root of the mean squared loss; the preferred duration
of a round is the median of what clients are expected to take, and no pacer moves it; and no client is left out for having
been chosen often, for which there is `fair`.
"""

import math
from collections.abc import Sequence

import numpy as np

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.pool import Pool
from fededge.fleet.selection.sampling import smallest, weighted

EXPLORED, DECAY, LEAST = 0.9, 0.98, 0.2
"""Share of a cohort that is tried for the first time: at first, times this each round, at least."""
PENALTY = 2.0
"""Exponent of what a client loses that takes longer than preferred (alpha)."""
CUTOFF = 0.95
"""Clients with this share of the utility of the last that would be in are drawn from, too (c)."""
CLIP = 0.95
"""Quantile at which utilities are cut off."""
DOUBT = 0.1
"""Weight of what is not known any more of a client that was long not chosen."""


class Oort:
    """Some clients for the first time, the faster ones sooner; the others by loss, examples and speed."""

    facts = frozenset({"train", "waited", "loss", "speed"})

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        candidates = Pool.of(pool)
        is_new = np.isnan(candidates.columns["loss"])
        known, new = candidates.at(~is_new), candidates.at(is_new)
        share = max(LEAST, EXPLORED * DECAY**round_number)
        exploring = min(len(new), max(round(share * size), size - len(known)))
        exploited = _exploit(known, size - exploring, seed, round_number)
        return exploited + _explore(new, size - len(exploited), seed, round_number)


def _exploit(known: Pool, size: int, seed: int, round_number: int) -> list[str]:
    if not len(known) or size <= 0:
        return []
    utilities = _utilities(known, round_number)
    bar = CUTOFF * utilities[smallest(-utilities, size)].min()
    good = np.flatnonzero(utilities >= bar)
    return weighted(known.at(good), utilities[good], size, seed, round_number)


def _explore(new: Pool, size: int, seed: int, round_number: int) -> list[str]:
    speeds = new.columns["speed"]
    measured = speeds > 0
    usual = np.median(speeds[measured]) if measured.any() else 1.0
    return weighted(new, np.where(measured, speeds, usual), size, seed, round_number)


def _utilities(known: Pool, round_number: int) -> np.ndarray:
    """How useful each client is: of its examples (at most 1), more where that is old, less where it is slow."""
    train, speeds = known.columns["train"], known.columns["speed"]
    learned = train * np.maximum(known.columns["loss"], 0.0)
    place = math.ceil(CLIP * (len(learned) - 1))
    top = np.partition(learned, place)[place]
    last = np.maximum(1, round_number - known.columns["waited"])
    utilities = np.minimum(learned, top) / top if top else np.zeros(len(learned))
    utilities = utilities + np.sqrt(DOUBT * math.log(max(1, round_number)) / last)
    measured = speeds > 0
    if measured.any():
        seconds = np.divide(train, speeds, out=np.zeros(len(train)), where=measured)
        preferred = np.median(seconds[measured])
        slow = seconds > preferred
        utilities[slow] *= (preferred / seconds[slow]) ** PENALTY
    return utilities
