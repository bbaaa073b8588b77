"""The random numbers of a round: one for each client, which anybody computes again from its id.

They come from SHA-256 and not from a generator whose stream may change between releases.
"""

import hashlib

import numpy as np

PART = 10_000
"""Digests that are in memory at once."""


def uniform(seed: int, round_number: int, client: str) -> float:
    """A number in [0, 1) for `client`, independent between clients and rounds."""
    return float(uniforms(seed, round_number, np.array([client.encode()]))[0])


def uniforms(seed: int, round_number: int, ids: np.ndarray) -> np.ndarray:
    """The numbers of many clients, in their order: of each 53 bits of a digest, as a fraction of 2^53.

    Args:
        ids: of the clients, as UTF-8.
    """
    begin, sha256 = f"fededge cohort\0{seed}\0{round_number}\0".encode(), hashlib.sha256
    numbers = np.empty(len(ids))
    for part in range(0, len(ids), PART):
        digests = b"".join([sha256(begin + client).digest() for client in ids[part : part + PART].tolist()])
        numbers[part : part + PART] = (np.frombuffer(digests, ">u8")[::4] >> np.uint64(11)) / 2.0**53
    return numbers
