"""From which clients a cohort is drawn where there are too many to look at each.

Clients lie in the order of their random keys (`fededge.protocol.random_key`). A window is a run of that order, wrapping
around, from a starting point that seed and round number give: the registry finds it by an index, and anybody computes it
again from the clients' ids.
"""

import hashlib

import numpy as np

from fededge.fleet.selection.sampling import smallest
from fededge.protocol import random_key

SMALLEST = 1024


def start(seed: int, number: int) -> int:
    """Where the window of round `number` begins, in [0, 2^63)."""
    key = f"fededge window\0{seed}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def width(size: int) -> int:
    """How many clients the window for a cohort of `size` holds, where there are so many."""
    return max(SMALLEST, 4 * size)


def window(ids: np.ndarray, size: int, seed: int, number: int) -> np.ndarray:
    """Places in `ids` of the clients that a cohort of `size` is drawn from in round `number`, in any order.

    Args:
        ids: of the clients, as UTF-8.
    """
    most = width(size)
    if len(ids) <= most:
        return np.arange(len(ids))
    keys = np.array([random_key(client.decode()) for client in ids.tolist()], np.uint64)
    behind = (keys - np.uint64(start(seed, number))) & np.uint64(2**63 - 1)
    near = smallest(behind, most)
    return near[np.lexsort((ids[near], behind[near]))][:most]
