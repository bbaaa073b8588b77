"""A random sample of a source, and what trees of scikit-learn learn from it: the score that a model should come near."""

from dataclasses import dataclass

import numpy as np

from fededge.documents import Schema
from fededge.learning.data.source import Source
from fededge.learning.data.survey import checked
from fededge.metrics import METRIC

MOST = 20_000
"""Examples in a sample."""
BYTES = 256 << 20
HASHED = 1_000_000
"""Examples among which duplicates are looked for."""
TREES = 60
HELD_OUT = 0.25


@dataclass(frozen=True)
class Sample:
    """x [k, ...] and y [k, ...] of at most MOST examples, all equally likely; `count` in all; `duplicates` among them."""

    x: np.ndarray
    y: np.ndarray
    count: int
    duplicates: int


def sample(source: Source, seed: int = 0) -> Sample:
    """Draw one in a pass over `source`.

    Raises:
        DataError: a value is not finite, or there is nothing.
    """
    rng = np.random.default_rng(seed)
    keys = np.zeros(0)
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    hashes: list[int] = []
    count = 0
    for batch in checked(source):
        count += len(batch.x)
        if len(hashes) < HASHED:
            hashes += [
                hash((one.tobytes(), other.tobytes())) for one, other in zip(batch.x, batch.y, strict=True)
            ]
        drawn = rng.random(len(batch.x))
        most = min(MOST, max(100, BYTES // max(1, batch.x[:1].nbytes)))
        chosen = drawn < (keys.max() if len(keys) == most else 1)
        keys = np.concatenate([keys, drawn[chosen]])
        x, y = (
            new[chosen] if old is None else np.concatenate([old, new[chosen]])
            for old, new in ((x, batch.x), (y, batch.y))
        )
        if len(keys) > most:
            kept = np.argpartition(keys, most)[:most]
            keys, x, y = keys[kept], x[kept], y[kept]
    assert x is not None
    assert y is not None
    return Sample(x, y, count, len(hashes) - len(set(hashes)))


def chance(y: np.ndarray, schema: Schema) -> float:
    """Score of always giving the same answer."""
    if schema.label.kind == "number":
        return 0.0
    if schema.label.kind == "multi-label":
        share = y.mean(axis=0)
        return float(np.maximum(share, 1 - share).mean())
    return float(np.bincount(y.reshape(-1)).max() / y.size)


def reached(drawn: Sample, schema: Schema) -> float | None:
    """Score of trees on a part of the sample that they did not see; None where the label is of another kind.

    Gradient boosting where examples are flat, else extremely randomized trees, which are quick on many numbers.
    """
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        ExtraTreesRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )

    kind = schema.label.kind
    y = drawn.y
    if kind not in METRIC or kind in ("sequence", "none") or (kind == "number" and y.ndim > 1):
        return None
    train, test = _divided(len(y))
    if not len(test) or (kind == "class" and len(np.unique(y[train])) < 2):
        return None
    x = drawn.x.reshape(len(y), -1)
    if x.shape[1] <= 200 and kind != "multi-label":
        model = (HistGradientBoostingClassifier if kind == "class" else HistGradientBoostingRegressor)(
            random_state=0
        )
    else:
        trees = ExtraTreesRegressor if kind == "number" else ExtraTreesClassifier
        model = trees(TREES, random_state=0, max_depth=20)
    model.fit(x[train], y[train])
    if kind == "multi-label":
        return float((model.predict(x[test]) == y[test]).mean())
    return float(model.score(x[test], y[test]))


def _divided(count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(count)
    held = int(count * HELD_OUT)
    return order[held:], order[:held]
