"""Who gets which example: clients to learn from, their own small test sets, validation and test, none in two.

All of it is drawn from the task's seed. What is held out whole (a client, an owner, a time) is so in all parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fededge.errors import DataError
from fededge.learning.data import partition
from fededge.learning.data.survey import Survey
from fededge.task import LocalData, Partition, Split

Place = tuple[str, ...]
HeldOutBy = Literal["example", "client", "owner", "time", "source"]
TEST: Place = ("test",)
VALIDATION: Place = ("validation",)
"""Where an example goes: a client and its part, or the held-out set's name."""


@dataclass(frozen=True)
class Division:
    """Where each example goes.

    places: in an order; indices: int [k] of the examples of each; by and held_clients tell how they were held out.
    """

    places: dict[Place, np.ndarray]
    by: HeldOutBy
    held_clients: list[str]

    def __iter__(self) -> Iterator[tuple[Place, np.ndarray]]:
        return iter(self.places.items())

    @property
    def clients(self) -> list[str]:
        """Those who learn, in order."""
        return list(dict.fromkeys(place[0] for place in self.places if len(place) == 2))

    @property
    def sizes(self) -> list[int]:
        """Examples of each client, its own test set included."""
        return [self.count(name, "train") + self.count(name, "test") for name in self.clients]

    def count(self, *place: str) -> int:
        """Examples at a place."""
        return len(self.places.get(place, ()))


def divide(found: Survey, data: LocalData, how: Partition, seed: int) -> Division:
    """Hold examples out as the task says, and spread the others over clients.

    Raises:
        DataError: nothing would be left for one of the parts, or a client would get too few.
    """
    split = data.split
    if split is None and found.held is not None:
        train, test = (np.flatnonzero(part).astype(np.int32) for part in (~found.held, found.held))
        return _division(found, how, seed, train, {TEST: test}, "source")
    split = split or Split(test=getattr(data, "holdout", Split().test))
    if found.owners is not None and (found.owners < 0).any():
        raise DataError(
            "data.split holds out of all examples, but those of the source's own test set have no owner: remove "
            "data.split, or give each an owner"
        )
    if split.by == "client":
        return _by_client(found, how, seed, split)
    everything = np.arange(found.count, dtype=np.int32)
    if split.by == "example":
        order = everything
        np.random.default_rng([seed, 1]).shuffle(order)
        first, second = (
            max(1, round(found.count * share)) if share else 0 for share in (split.test, split.validation)
        )
        held = {TEST: order[:first], VALIDATION: order[first : first + second]}
        return _division(found, how, seed, order[first + second :], held, split.by)
    if split.by == "owner":
        assert found.owners is not None
        kept = _whole_groups(found.owners, split, np.random.default_rng([seed, 1]))
    else:
        assert found.times is not None
        kept = _latest(found.times, split)
    held = {TEST: everything[kept == 2], VALIDATION: everything[kept == 1]}
    return _division(found, how, seed, everything[kept == 0], held, split.by)


def _division(
    found: Survey,
    how: Partition,
    seed: int,
    train: np.ndarray,
    held: dict[Place, np.ndarray],
    by: HeldOutBy,
) -> Division:
    places: dict[Place, np.ndarray] = {}
    shares = _shares(found, how, seed, train)
    for number, name in enumerate(list(shares)):
        places |= _client(name, shares.pop(name), number, found, how, seed, by)
    return Division(places | _sorted(held), by, [])


def _by_client(found: Survey, how: Partition, seed: int, split: Split) -> Division:
    shares = _shares(found, how, seed, np.arange(found.count, dtype=np.int32))
    names = np.random.default_rng([seed, 1]).permutation(list(shares)).tolist()
    test, validation = (
        max(1, round(len(names) * share)) if share else 0 for share in (split.test, split.validation)
    )
    if test + validation >= len(names):
        raise DataError(
            f"data.split.by client holds out {test + validation} of {len(names)} clients, which leaves none to learn "
            "from: use more clients, or another split"
        )
    held = {TEST: names[:test], VALIDATION: names[test : test + validation]}
    places: dict[Place, np.ndarray] = {}
    for number, name in enumerate(name for name in shares if name not in names[: test + validation]):
        places |= _client(name, shares[name], number, found, how, seed, split.by)
    joined = {place: np.concatenate([shares[name] for name in mine]) for place, mine in held.items() if mine}
    return Division(places | _sorted(joined), split.by, sorted(names[: test + validation]))


def _shares(found: Survey, how: Partition, seed: int, train: np.ndarray) -> dict[str, np.ndarray]:
    owners = None if found.owners is None else found.owners[train]
    times = None if found.times is None else found.times[train]
    parts = partition.assign(how, seed, found.groups[train], owners, found.names, times)
    return {name: train[parts.pop(name)] for name in list(parts)}


def _client(
    name: str, indices: np.ndarray, number: int, found: Survey, how: Partition, seed: int, by: HeldOutBy
) -> dict[Place, np.ndarray]:
    """A client's training examples and those it evaluates on: the latest where time splits, else any."""
    kept = partition.held_out(len(indices), how.local_holdout)
    if by == "time" and found.times is not None:
        order = indices[np.argsort(-found.times[indices], kind="stable")]
    else:
        order = np.random.default_rng([seed, 3, number]).permutation(indices)
    return {(name, "train"): np.sort(order[kept:]), (name, "test"): np.sort(order[:kept])}


def _whole_groups(owners: np.ndarray, split: Split, rng: np.random.Generator) -> np.ndarray:
    """Owner by owner until the share of examples is reached: 2 of test, 1 of validation, 0 of training; int8 [n]."""
    sizes = np.bincount(owners[owners >= 0])
    order = rng.permutation(len(sizes))
    mark = np.zeros(len(sizes), np.int8)
    taken = 0
    for part, share in ((2, split.test), (1, split.validation)):
        wanted = share * len(owners)
        while wanted > 0 and taken < len(order):
            mark[order[taken]] = part
            wanted -= sizes[order[taken]]
            taken += 1
    if taken >= len(order):
        raise DataError(
            f"data.split.by owner leaves none of {len(order)} owners to learn from: use smaller shares, or another split"
        )
    return mark[owners]


def _latest(times: np.ndarray, split: Split) -> np.ndarray:
    """The latest times: 2 of test, 1 of validation, 0 of training; what has one time is in one part; int8 [n]."""
    ordered = np.sort(times)
    bounds = [ordered[min(int(len(times) * share), len(times) - 1)] for share in _bounds(split)]
    kept = (times >= bounds[0]).astype(np.int8) + (times >= bounds[1])
    if split.validation == 0:
        kept = np.where(times >= bounds[1], 2, 0).astype(np.int8)
    if not (kept == 0).any():
        raise DataError("data.split.by time leaves nothing before the held-out time: use another split")
    return kept


def _bounds(split: Split) -> tuple[float, float]:
    return 1 - split.test - split.validation, 1 - split.test


def _sorted(held: dict[Place, np.ndarray]) -> dict[Place, np.ndarray]:
    return {place: np.sort(indices) for place, indices in held.items() if len(indices)}
