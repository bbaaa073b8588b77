"""How training examples are spread over clients."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from fededge.errors import DataError, shown
from fededge.task import Partition
from fededge.task.partition import BY_OWNER

ATTEMPTS = 1000


def assign(
    how: Partition,
    seed: int,
    groups: np.ndarray,
    owners: np.ndarray | None = None,
    names: Sequence[str] = (),
    times: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Client id to the indices of its examples, ascending; every example goes to exactly one client.

    Args:
        how: kind, number of clients and alpha.
        seed: of the task; the same seed gives the same shares.
        groups: classes, or tenths of numbers, int [n].
        owners: places in `names`, int [n], for kinds natural and column.
        names: of the owners.
        times: float [n], for kind time.

    Raises:
        DataError: a client would get fewer than `partition.min_examples`.
    """
    count = len(groups)
    if how.kind not in BY_OWNER and how.clients * how.min_examples > count:
        raise DataError(
            f"{how.clients:,} clients with partition.min_examples {how.min_examples:,} each need more than the "
            f"{count:,} training examples there are: use fewer clients or a smaller min_examples"
        )
    rng = np.random.default_rng([seed, 2])
    if how.kind in BY_OWNER:
        assert owners is not None
        shares = _by_owner(owners, names)
    else:
        shares = {f"site-{number}": part for number, part in enumerate(_parts(how, rng, groups, times))}
        for part in shares.values():
            part.sort()
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


def _parts(
    how: Partition, rng: np.random.Generator, groups: np.ndarray, times: np.ndarray | None
) -> Sequence[np.ndarray]:
    count, clients = len(groups), how.clients
    if how.kind == "iid":
        return np.array_split(_shuffled(count, rng), clients)
    if how.kind == "time":
        assert times is not None
        return np.array_split(np.argsort(times, kind="stable").astype(np.int32), clients)
    if how.kind == "shards":
        return _shards(groups, clients, how.shards, rng)
    draw = _by_size if how.kind == "quantity" else _by_label
    return _enough(lambda: draw(groups, clients, how.alpha, rng), how.min_examples)


def _shuffled(count: int, rng: np.random.Generator) -> np.ndarray:
    order = np.arange(count, dtype=np.int32)
    rng.shuffle(order)
    return order


def _by_owner(owners: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    shares = {}
    bounds = np.cumsum(np.bincount(owners, minlength=len(names)))[:-1]
    members = dict(zip(names, np.split(np.argsort(owners, kind="stable"), bounds), strict=True))
    for owner in sorted(owner for owner in names if len(members[owner])):
        name = re.sub(r"[^a-zA-Z0-9_.-]", "-", owner).strip(".-")[:64]
        if not name or name in shares:
            raise DataError(
                f"owner {shown(owner)!r} gives no distinct client name: use letters, digits, '-', '_'"
            )
        shares[name] = members[owner]
    return shares


def _enough(draw: Callable[[], list[np.ndarray]], fewest: int) -> list[np.ndarray]:
    """What is drawn, drawn again until all have enough; the last draw where that never happens."""
    parts: list[np.ndarray] = []
    for _ in range(ATTEMPTS):
        parts = draw()
        if min(map(len, parts)) >= fewest:
            break
    return parts


def _by_label(groups: np.ndarray, clients: int, alpha: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Label skew by a Dirichlet draw per class (Hsu, Qi and Brown 2019, Measuring the Effects of Non-Identical Data
    Distribution for Federated Visual Classification)."""
    pieces: list[list[np.ndarray]] = [[] for _ in range(clients)]
    for label in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == label).astype(np.int32))
        bounds = (np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * len(members)).astype(int)
        for client, piece in enumerate(np.split(members, bounds)):
            pieces[client].append(piece)
    return [np.concatenate(piece) for piece in pieces]


def _by_size(groups: np.ndarray, clients: int, alpha: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Examples at random, in sizes by a Dirichlet draw over clients."""
    sizes = rng.dirichlet(np.full(clients, alpha))
    bounds = (np.cumsum(sizes)[:-1] * len(groups)).astype(int)
    return np.split(_shuffled(len(groups), rng), bounds)


def _shards(groups: np.ndarray, clients: int, each: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Label skew by shards: examples sorted by class and cut into equal shards, of which each client gets `each`
    (McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data, section 3)."""
    order = _shuffled(len(groups), rng)
    cut = np.array_split(order[np.argsort(groups[order], kind="stable")], clients * each)
    dealt = rng.permutation(clients * each).reshape(clients, each)
    return [np.concatenate([cut[shard] for shard in mine]) for mine in dealt]
