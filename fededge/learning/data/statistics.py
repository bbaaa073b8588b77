"""Means and deviations out of each client's own sums: no client's examples leave it, and nothing is pooled.

A client tells of each number of an example how often it is there, its mean and the sum of squared differences from
that mean, which say the same as count, sum and sum of squares and are exact where those cancel. They are merged by
Chan, Golub and LeVeque 1983, Algorithms for Computing the Sample Variance: Analysis and Recommendations (The
American Statistician 37(3), equation 2.1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fededge.documents import Feature, Label, Schema
from fededge.encoding import logarithms
from fededge.learning.data.writing import pieces

CONSTANT = 1e-6
"""A deviation below this share of the mean is rounding of float32, not spread."""


@dataclass(frozen=True)
class Moments:
    """count, mean, and sum of squared differences from it, of each of k numbers: float64 [k]."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    def merged(self, other: "Moments") -> "Moments":
        """Those of both together."""
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)
        apart = other.mean - self.mean
        return Moments(
            count, self.mean + apart * share, self.squares + other.squares + apart**2 * self.count * share
        )

    @property
    def deviation(self) -> np.ndarray:
        """Of the population; 1 where there is no spread, float64 [k]."""
        found = np.sqrt(self.squares / np.maximum(self.count, 1))
        return np.where(
            found > np.maximum(CONSTANT * np.abs(self.mean), np.finfo(np.float32).tiny), found, 1.0
        )

    def slice(self, start: int, end: int) -> "Moments":
        """Those of the numbers from `start` to `end` as if they were one."""
        parts = [
            Moments(self.count[[place]], self.mean[[place]], self.squares[[place]])
            for place in range(start, end)
        ]
        return merge(parts, 1)


def moments(values: np.ndarray) -> Moments:
    """Of `values` [n, k]; NaN is left out."""
    values = values.astype(np.float64)
    there = ~np.isnan(values)
    count = there.sum(axis=0).astype(np.float64)
    mean = np.where(there, values, 0).sum(axis=0) / np.maximum(count, 1)
    return Moments(count, mean, np.where(there, (values - mean) ** 2, 0).sum(axis=0))


def merge(parts: Iterable[Moments], size: int) -> Moments:
    """Those of all `parts` of `size` numbers together."""
    total = Moments(*(np.zeros(size) for _ in range(3)))
    for part in parts:
        total = total.merged(part)
    return total


def of_client(file: Path, log: np.ndarray) -> Moments:
    """What a client tells of its x.npy or y.npy, whose numbers are taken as logarithms where `log` [k] is above 0."""
    return merge((moments(logarithms(piece, log)) for piece in pieces(file)), len(log))


def with_statistics(schema: Schema, folders: Iterable[Path], filled: Iterable[int] = ()) -> Schema:
    """`schema` with what the clients with these training `folders` tell; images and categories are left as they are.

    Args:
        schema: of the examples.
        folders: the clients' training examples.
        filled: places whose missing numbers the mean stands for.
    """
    folders = list(folders)
    features = schema.features
    if any(standardized(feature) for feature in features):
        log = np.concatenate([np.full(feature.size, feature.log or 0.0) for feature in features])
        total = merge((of_client(folder / "x.npy", log) for folder in folders), len(log))
        features = _described(features, total, set(filled))
    return schema.model_copy(update={"features": features, "label": _label(schema.label, folders)})


def standardized(feature: Feature) -> bool:
    """Whether a model sees its numbers less their mean: not images, words, truth values or numbers of tokens."""
    tokens = feature.dtype == "int64" and bool(feature.shape)
    return not (feature.categories or tokens or feature.dtype in ("uint8", "bool") or len(feature.shape) > 2)


def _described(features: list[Feature], total: Moments, filled: set[int]) -> list[Feature]:
    described, start = [], 0
    for feature in features:
        if standardized(feature):
            own = total.slice(start, start + feature.size)
            found = {"mean": float(own.mean[0]), "std": float(own.deviation[0])}
            if start in filled:
                found["missing"] = float(np.float32(_value(float(own.mean[0]), feature.log)))
            feature = feature.model_copy(update=found)
        described.append(feature)
        start += feature.size
    return described


def _value(mean: float, log: float | None) -> float:
    """The number that enters a model as `mean`."""
    return mean if log is None else math.copysign(log * math.expm1(abs(mean)), mean)


def _label(label: Label, folders: list[Path]) -> Label:
    if label.kind != "number":
        return label
    plain = np.zeros(math.prod(label.shape))
    total = merge((of_client(folder / "y.npy", plain) for folder in folders), len(plain))
    return label.model_copy(update={"mean": total.mean.tolist(), "std": total.deviation.tolist()})
