"""Guided selection: clients whose examples still teach the model, and that are quick about it.

Lai, Zhu, Madhyastha and Chowdhury 2021, Oort: Efficient Federated Learning via Guided Participant Selection (OSDI),
section 4 and algorithm 1. It differs in three points, since a policy here keeps no state and sees no loss of a single
example: the statistical utility takes the mean loss in place of the root of the mean squared loss; the preferred duration
of a round is the median of what clients are expected to take, and no pacer moves it; and no client is left out for having
been chosen often, for which there is `fair`.
"""

import math
import statistics
from collections.abc import Sequence

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.sampling import weighted

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

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        known = [client for client in pool if client.loss is not None]
        new = [client for client in pool if client.loss is None]
        share = max(LEAST, EXPLORED * DECAY**round_number)
        exploring = min(len(new), max(round(share * size), size - len(known)))
        exploited = _exploit(known, size - exploring, seed, round_number)
        return exploited + _explore(new, size - len(exploited), seed, round_number)


def _exploit(known: list[Candidate], size: int, seed: int, round_number: int) -> list[str]:
    utilities = _utilities(known, round_number)
    best = sorted(utilities.values(), reverse=True)[:size]
    if not best:
        return []
    bar = CUTOFF * best[-1]
    return weighted({c: u for c, u in utilities.items() if u >= bar}, size, seed, round_number)


def _explore(new: list[Candidate], size: int, seed: int, round_number: int) -> list[str]:
    speeds = [client.speed for client in new if client.speed]
    usual = statistics.median(speeds) if speeds else 1.0
    return weighted({client.id: client.speed or usual for client in new}, size, seed, round_number)


def _utilities(known: list[Candidate], round_number: int) -> dict[str, float]:
    """How useful each client is, by id: of its examples (at most 1), more where that is old, less where it is slow."""
    learned = {client.id: client.train * max(client.loss or 0.0, 0.0) for client in known}
    ordered = sorted(learned.values())
    top = ordered[math.ceil(CLIP * (len(ordered) - 1))] if ordered else 0.0
    seconds = {client.id: client.train / client.speed for client in known if client.speed}
    preferred = statistics.median(seconds.values()) if seconds else math.inf
    found = {}
    for client in known:
        utility = min(learned[client.id], top) / top if top else 0.0
        last = max(1, round_number - client.waited)
        utility += math.sqrt(DOUBT * math.log(max(1, round_number)) / last)
        if seconds.get(client.id, 0.0) > preferred:
            utility *= (preferred / seconds[client.id]) ** PENALTY
        found[client.id] = utility
    return found
