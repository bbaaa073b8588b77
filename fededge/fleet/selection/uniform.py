"""Uniform selection: every client is as likely as any other.

Out of a window of the pool (`fededge.fleet.selection.window`), which is all of it up to 1,024 clients, those with the
smallest random numbers are in. Of up to as many clients every cohort of the size is equally likely.
"""

import hashlib
from collections.abc import Sequence

from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.window import window


class Uniform:
    """The clients with the smallest random numbers.

    Randomness comes from SHA-256 and not from a generator whose stream may change between releases.
    """

    def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
        """See Policy."""

        def order(client: str) -> tuple[float, str]:
            return (uniform(seed, round_number, client), client)

        near = window((client.id for client in pool), size, seed, round_number)
        return sorted(near, key=order)[:size]


def uniform(seed: int, round_number: int, client: str) -> float:
    """A number in [0, 1) for `client`, independent between clients and rounds."""
    key = f"fededge cohort\0{seed}\0{round_number}\0{client}".encode()
    return (int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 11) / 2**53
