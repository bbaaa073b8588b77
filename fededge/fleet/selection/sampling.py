"""Drawing clients with unequal chances."""

import heapq
import math

import numpy as np

from fededge.fleet.selection.pool import Pool

SLACK = 1e-12
"""By which a key that numpy computes may differ from the one that decides."""


def weighted(pool: Pool, weights: np.ndarray, size: int, seed: int, round_number: int) -> list[str]:
    """`size` different ids, one after the other, each of the rest with a chance in proportion to its weight.

    Drawn by exponential keys (Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir, Information
    Processing Letters 97(5), section 3, algorithm A-Res): the largest u^(1/weight) are in, here as smallest
    -log(u)/weight. Keys of all are computed at once, which finds those that may be in; among those, keys that are
    computed one by one decide.

    Args:
        weights: of each of the pool; those of weight 0 come last.
    """
    drawn = pool.drawn(seed, round_number)
    with np.errstate(divide="ignore", invalid="ignore"):
        keys = np.where(weights > 0, -np.log(1 - drawn) / weights, np.inf)
    near = smallest(keys, size, SLACK)
    found = [
        (-math.log(1 - chance) / weight if weight > 0 else math.inf, client)
        for client, weight, chance in zip(
            pool.ids(near), weights[near].tolist(), drawn[near].tolist(), strict=True
        )
    ]
    return [client for _, client in heapq.nsmallest(size, found)]


def smallest(keys: np.ndarray, count: int, slack: float = 0.0) -> np.ndarray:
    """Places of the `count` smallest of `keys`, of their equals, and of those that are larger by a share of `slack`."""
    if count >= len(keys):
        return np.arange(len(keys))
    if count <= 0:
        return np.arange(0)
    last = np.partition(keys, count - 1)[count - 1]
    return np.flatnonzero(keys <= (last * (1 + slack) if slack else last))
