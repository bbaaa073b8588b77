"""Drawing clients with unequal chances."""

import heapq
import math
from collections.abc import Mapping

from fededge.fleet.selection.uniform import uniform


def weighted(weights: Mapping[str, float], size: int, seed: int, round_number: int) -> list[str]:
    """`size` different ids, one after the other, each of the rest with a chance in proportion to its weight.

    Drawn by exponential keys (Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir, Information
    Processing Letters 97(5), section 3, algorithm A-Res): the largest u^(1/weight) are in, here as smallest
    -log(u)/weight.

    Args:
        weights: by id; ids of weight 0 come last.
    """

    def key(client: str) -> tuple[float, str]:
        weight, drawn = weights[client], -math.log(1 - uniform(seed, round_number, client))
        return (drawn / weight if weight > 0 else math.inf, client)

    return heapq.nsmallest(size, weights, key=key)
