"""Selection across regions: each region gets as many seats as any other, as far as it has clients.

A stratified sample of equal allocation (Cochran 1977, Sampling Techniques, third edition, chapter 5): small regions are
heard as often as large ones. Clients without a region are a region of their own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fededge.fleet.selection.chance import uniform
from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.pool import Pool
from fededge.fleet.selection.sampling import smallest


class Geo:
    """Stratified by region: one client at random out of each region in turn, the regions in a random order."""

    facts = frozenset({"region"})

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        candidates = Pool.of(pool)
        drawn, region = candidates.drawn(seed, round_number), candidates.columns["region"]
        clients = {
            number: int(count) for number, count in zip(*np.unique(region, return_counts=True), strict=True)
        }
        names = {number: candidates.regions[number] or "" for number in clients}
        order = sorted(clients, key=lambda n: (uniform(seed, round_number, f"region {names[n]}"), names[n]))
        chosen: list[str] = []
        for number, seats in _dealt(size, {number: clients[number] for number in order}).items():
            there = np.flatnonzero(region == number)
            near = there[smallest(drawn[there], seats)]
            ranked = sorted(zip(drawn[near].tolist(), candidates.ids(near), strict=True))
            chosen += [client for _, client in ranked[:seats]]
        return chosen


def _dealt(size: int, clients: Mapping[int, int]) -> Counter[int]:
    """How many seats each region gets, dealt in turn to those that have clients left.

    Args:
        clients: of each region, in the order of the regions.
    """
    seats: Counter[int] = Counter()
    open_to = list(clients)
    while size > 0 and open_to:
        seats.update(open_to[:size])
        size -= len(open_to)
        open_to = [region for region in open_to if clients[region] > seats[region]]
    return seats
