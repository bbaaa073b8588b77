"""A combination: each seat of a cohort goes to one of several policies, by chance."""

import bisect
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from fededge.fleet.selection.chance import uniform
from fededge.fleet.selection.policy import Candidate, Policy, facts_of
from fededge.fleet.selection.pool import Pool


class Weighted:
    """Policies that share the seats of a cohort: each seat is one policy's with a chance in proportion to its weight.

    Args:
        policies: by name, each with its weight; they choose one after the other, in the order of their names, among
            those that are left.
    """

    def __init__(self, policies: Mapping[str, tuple[Policy, float]]) -> None:
        self._policies = dict(sorted(policies.items()))
        self.facts = frozenset[str]().union(*(facts_of(policy) for policy, _ in policies.values()))

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""
        seats = Counter(self._owner(uniform(seed, round_number, f"seat {n}")) for n in range(size))
        chosen: list[str] = []
        rest = Pool.of(pool)
        rest.drawn(seed, round_number)  # once, for all of them
        for name, (policy, _) in self._policies.items():
            if seats[name]:
                some = policy.choose(rest, seats[name], seed, round_number)
                rest = rest.without(some)
                chosen += some
        return chosen

    def _owner(self, drawn: float) -> str:
        """Whose a seat is, by a number in [0, 1)."""
        names = list(self._policies)
        ends = list(itertools.accumulate(weight for _, weight in self._policies.values()))
        return names[min(bisect.bisect_right(ends, drawn * ends[-1]), len(names) - 1)]
