"""Mock data of a schema: a task can be tried before a site gives access to its own.

Numbers follow the schema's means and deviations, words and classes are equally likely, and the label depends on the
features, so that there is something to learn. Nothing of any real example is in it.
"""

from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Feature, Label, Schema
from fededge.learning.data.writing import whole_or_nothing

LEVELS = 256
TOKENS = 100


def make(schema: Schema, count: int, seed: int, folder: Path) -> None:
    """Write `count` examples of `schema` into `folder`, as `fededge.examples` describes.

    Raises:
        StorageError: the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    x = np.concatenate([_feature(feature, count, rng) for feature in schema.features], axis=1)
    y = _label(schema.label, x, rng)
    with whole_or_nothing(folder):
        examples.write(folder, x.reshape(count, *schema.shape), y, schema)


def _feature(feature: Feature, count: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [count, feature.size]."""
    shape = (count, feature.size)
    if feature.categories:
        return rng.integers(0, len(feature.categories), shape).astype(np.float64)
    if feature.dtype == "uint8":
        return rng.integers(0, LEVELS, shape).astype(np.float64)
    if feature.dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.float64)
    if feature.dtype == "int64" and feature.shape:
        return rng.integers(0, TOKENS, shape).astype(np.float64)
    return (feature.mean or 0.0) + (feature.std or 1.0) * rng.normal(size=shape)


def _label(label: Label, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels by random linear functions of standardized features."""
    spread = x.std(axis=0)
    standard = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    count = len(x)
    if label.kind == "none":
        return np.zeros((count, 0))
    if label.kind == "sequence":
        return x[:, : label.shape[0]].astype(np.int64) % label.classes
    outputs = label.classes or int(np.prod(label.shape))
    scores = standard @ rng.normal(size=(x.shape[1], outputs)) / np.sqrt(x.shape[1])
    if label.kind == "class":
        return scores.argmax(axis=1)
    if label.kind == "multi-label":
        return scores > 0
    mean, std = np.array(label.mean or [0.0] * outputs), np.array(label.std or [1.0] * outputs)
    return (mean + std * scores).reshape(count, *label.shape)
