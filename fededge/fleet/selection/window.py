"""From which clients a cohort is drawn where there are too many to look at each.

Clients lie in the order of their random keys (`fededge.protocol.random_key`). A window is a run of that order, wrapping
around, from a starting point that seed and round number give: the registry finds it by an index, and anybody computes it
again from the clients' ids.
"""

import hashlib
from collections.abc import Iterable

from fededge.protocol import random_key

SMALLEST = 1024


def start(seed: int, number: int) -> int:
    """Where the window of round `number` begins, in [0, 2^63)."""
    key = f"fededge window\0{seed}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def width(size: int) -> int:
    """How many clients the window for a cohort of `size` holds, where there are so many."""
    return max(SMALLEST, 4 * size)


def window(clients: Iterable[str], size: int, seed: int, number: int) -> list[str]:
    """The clients that a cohort of `size` is drawn from in round `number`, in any order."""
    all_of_them = list(clients)
    if len(all_of_them) <= width(size):
        return all_of_them
    begin = start(seed, number)
    ordered = sorted((random_key(client), client) for client in all_of_them)
    after = [client for key, client in ordered if key >= begin]
    before = [client for key, client in ordered if key < begin]
    return [*after, *before][: width(size)]
