"""A random sample of a source, and what trees of scikit-learn learn from it: the score that a model should come near."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fededge.documents import Schema
from fededge.learning.data.source import Source
from fededge.learning.data.survey import checked

MOST = 20_000
"""Examples in a sample."""
BYTES = 256 << 20
HASHED = 1_000_000
"""Examples among which duplicates are looked for."""
TREES = 60
MOST_BOOSTED = 200
"""Numbers of an example up to which gradient boosting is quick."""
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


def compared(drawn: Sample, schema: Schema) -> tuple[float | None, float | None]:
    """Scores of always the same answer and of trees, on a part of the sample that the trees did not see.

    Gradient boosting where examples are flat, else extremely randomized trees, which are quick on many numbers. The
    second is None where no trees are grown, both where there is no label.
    """
    kind, y = schema.label.kind, drawn.y
    if kind == "none":
        return None, None
    train, test = _divided(len(y))
    few = not len(test) or (kind == "class" and len(np.unique(y[train])) < 2)
    if few or kind == "sequence" or (kind == "number" and y.ndim > 1):
        return chance(y, schema), None
    x = drawn.x.reshape(len(y), -1)
    model = _trees(kind, x.shape[1])
    model.fit(x[train], y[train])
    if kind == "multi-label":
        return chance(y[test], schema), float((model.predict(x[test]) == y[test]).mean())
    return chance(y[test], schema), float(model.score(x[test], y[test]))


def _trees(kind: str, width: int) -> Any:
    from sklearn import ensemble

    if width <= MOST_BOOSTED and kind != "multi-label":
        boosted = (
            ensemble.HistGradientBoostingClassifier
            if kind == "class"
            else ensemble.HistGradientBoostingRegressor
        )
        return boosted(random_state=0)
    trees = ensemble.ExtraTreesRegressor if kind == "number" else ensemble.ExtraTreesClassifier
    return trees(TREES, random_state=0, max_depth=20)


def _divided(count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(count)
    held = int(count * HELD_OUT)
    return order[held:], order[:held]
