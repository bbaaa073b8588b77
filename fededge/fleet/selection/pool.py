"""The candidates of a round by columns: of a million clients a few numbers each, and no object."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from fededge.fleet.selection.chance import uniforms
from fededge.fleet.selection.policy import Candidate

FIELDS = ("id", "train", "waited", "region", "loss", "speed")
"""Of a Candidate, in their order."""
NO_FACTS: Mapping[str, Any] = {
    "train": np.int64(0),
    "waited": np.int64(0),
    "region": np.int32(0),
    "loss": np.float64("nan"),
    "speed": np.float64("nan"),
}


class Pool(Sequence[Candidate]):
    """Candidates, each a row of columns that policies compute with.

    Args:
        columns: by name: `id` as UTF-8 bytes, which have no NUL; `train` and `waited` as integers; `region` as places in
            `regions`; `loss` and `speed` as floats, NaN where they are not known.
        regions: what the numbers of the column `region` stand for.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], regions: Sequence[str | None]) -> None:
        self.columns = columns
        self.regions = regions
        self._drawn: tuple[int, int, np.ndarray] | None = None

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> "Pool":
        """Those of `candidates`, which may be a pool."""
        if isinstance(candidates, Pool):
            return candidates
        return cls.gathered([{name: [getattr(each, name) for each in candidates] for name in FIELDS}])

    @classmethod
    def gathered(cls, parts: Iterable[Mapping[str, Sequence[Any]]]) -> "Pool":
        """Candidates that come in parts: of each the values by field, as a Candidate has them.

        A field that parts lack is not known of anybody; all parts have the same.
        """
        places: dict[str | None, int] = {None: 0}
        columns: dict[str, list[np.ndarray]] = defaultdict(list)
        for part in parts:
            for name, values in part.items():
                columns[name].append(_column(name, values, places))
        whole = {name: np.concatenate(some) for name, some in columns.items()}
        ids = whole.setdefault("id", np.empty(0, "S1"))
        for name, nothing in NO_FACTS.items():
            whole.setdefault(name, np.broadcast_to(nothing, len(ids)))
        return cls(whole, list(places))

    def __len__(self) -> int:
        return len(self.columns["id"])

    @overload
    def __getitem__(self, at: int) -> Candidate: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, at: int | slice) -> Candidate | Sequence[Candidate]:
        if isinstance(at, slice):
            return [self[place] for place in range(len(self))[at]]
        row = {name: column[at].item() for name, column in self.columns.items()}
        return Candidate(
            id=row["id"].decode(),
            train=row["train"],
            waited=row["waited"],
            region=self.regions[row["region"]],
            loss=_known(row["loss"]),
            speed=_known(row["speed"]),
        )

    def drawn(self, seed: int, round_number: int) -> np.ndarray:
        """The random number of each (fededge.fleet.selection.chance)."""
        if self._drawn is None or self._drawn[:2] != (seed, round_number):
            self._drawn = (seed, round_number, uniforms(seed, round_number, self.columns["id"]))
        return self._drawn[2]

    def ids(self, places: np.ndarray) -> list[str]:
        """The ids of those at `places`."""
        return [client.decode() for client in self.columns["id"][places].tolist()]

    def at(self, places: np.ndarray) -> "Pool":
        """Those at `places`, or where a mask is true."""
        part = Pool({name: column[places] for name, column in self.columns.items()}, self.regions)
        if self._drawn is not None:
            part._drawn = (*self._drawn[:2], self._drawn[2][places])
        return part

    def without(self, ids: Collection[str]) -> "Pool":
        """All others."""
        taken = {client.encode() for client in ids}
        others = (client not in taken for client in self.columns["id"])
        return self.at(np.fromiter(others, bool, len(self)))


def _column(name: str, values: Sequence[Any], places: dict[str | None, int]) -> np.ndarray:
    if name == "id":
        return np.array([client.encode() for client in values], "S")
    if name == "region":
        return np.array([places.setdefault(region, len(places)) for region in values], np.int32)
    return np.array(values, NO_FACTS[name].dtype)


def _known(number: float) -> float | None:
    return None if np.isnan(number) else number
