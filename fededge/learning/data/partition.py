"""How training examples are spread over clients: IID, Dirichlet label skew, or by a natural key."""

import re

import numpy as np

from fededge.errors import DataError
from fededge.task import Partition

ATTEMPTS = 1000


def assign(
    how: Partition, seed: int, y: np.ndarray, owners: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Client id to the indices of its examples; every example goes to exactly one client.

    Args:
        how: kind, number of clients and alpha.
        seed: of the task; the same seed gives the same shares.
        y: labels, int64 [n].
        owners: names [n], for kind natural.

    Raises:
        DataError: a client would get fewer than `partition.min_examples`.
    """
    if how.kind != "natural" and how.clients * how.min_examples > len(y):
        raise DataError(
            f"{how.clients:,} clients with partition.min_examples {how.min_examples:,} each need more than the "
            f"{len(y):,} training examples there are: use fewer clients or a smaller min_examples"
        )
    rng = np.random.default_rng([seed, 2])
    if how.kind == "natural":
        assert owners is not None
        shares = _by_owner(owners)
    else:
        parts = (
            np.array_split(rng.permutation(len(y)), how.clients)
            if how.kind == "iid"
            else _dirichlet(y, how.clients, how.alpha, how.min_examples, rng)
        )
        shares = {f"site-{number}": np.sort(part) for number, part in enumerate(parts)}
    fewest = min(shares, key=lambda name: len(shares[name]))
    if len(shares[fewest]) < how.min_examples:
        raise DataError(
            f"client {fewest} would get {len(shares[fewest])} examples where partition.min_examples asks for "
            f"{how.min_examples}: use fewer clients, a larger alpha or a smaller min_examples"
        )
    return shares


def held_out(examples: int, share: float) -> int:
    """How many of a client's `examples` are kept for its own evaluation: at least one, and not all."""
    return min(max(1, round(examples * share)), examples - 1)


def _by_owner(owners: np.ndarray) -> dict[str, np.ndarray]:
    shares = {}
    for owner in np.unique(owners):
        name = re.sub(r"[^a-zA-Z0-9_.-]", "-", str(owner)).strip(".-")[:64]
        if not name or name in shares:
            raise DataError(
                f"owner {str(owner)!r} gives no distinct client name: use letters, digits, '-', '_'"
            )
        shares[name] = np.flatnonzero(owners == owner)
    return shares


def _dirichlet(
    y: np.ndarray, clients: int, alpha: float, fewest: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Label skew by a Dirichlet draw per class (Hsu, Qi and Brown 2019), redrawn until all have enough."""
    parts: list[np.ndarray] = []
    for _ in range(ATTEMPTS):
        pieces: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in np.unique(y):
            members = rng.permutation(np.flatnonzero(y == label))
            bounds = (np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * len(members)).astype(int)
            for client, piece in enumerate(np.split(members, bounds)):
                pieces[client].append(piece)
        parts = [np.concatenate(piece) for piece in pieces]
        if min(map(len, parts)) >= fewest:
            break
    return parts
