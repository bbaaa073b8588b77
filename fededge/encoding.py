"""How a model sees examples, and what its answers mean: standardized numbers, one-hot categories.

The first layer of a model does this by the statistics in the schema, so data and requests hold what was measured.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fededge.documents import Schema


@dataclass(frozen=True)
class Columns:
    """By column of the encoded features, of which there are `w`.

    Attributes:
        source: column of the examples that it comes from, int64 [w].
        code: category that it stands for, float32 [w]; -1 where it is a number.
        log: unit of a number that enters as a logarithm, float32 [w]; 0 where it does not.
        mean: and `std`: what a number is standardized by, float32 [w].
    """

    source: np.ndarray
    code: np.ndarray
    log: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def categories(self) -> np.ndarray:
        """Which columns stand for a category, bool [w]."""
        return self.code >= 0


def columns(schema: "Schema") -> Columns | None:
    """How examples of `schema` are encoded; None where a model sees them as they are."""
    source: list[int] = []
    code: list[float] = []
    log: list[float] = []
    mean: list[float] = []
    std: list[float] = []
    at = 0
    for feature in schema.features:
        for _ in range(feature.size if feature.categories else 1):
            count = len(feature.categories) or feature.size
            source += [at] * count if feature.categories else range(at, at + count)
            code += range(count) if feature.categories else [-1] * count
            at += 1 if feature.categories else count
        width = len(source) - len(mean)
        log += [0.0 if feature.categories else feature.log or 0.0] * width
        standard = None if feature.categories else feature.std
        mean += [feature.mean or 0.0 if standard else 0.0] * width
        std += [standard or 1.0] * width
    if max(code) < 0 and not any(log) and not any(mean) and set(std) == {1.0}:
        return None
    return Columns(
        np.array(source, np.int64), *(np.array(values, np.float32) for values in (code, log, mean, std))
    )


def encode(schema: "Schema", x: np.ndarray) -> np.ndarray:
    """What a model sees, float32 [n, *schema.encoded_shape], of examples x float32 [n, *schema.shape]."""
    how = columns(schema)
    if how is None:
        return x
    flat = x.reshape(len(x), -1)
    if not np.array_equal(how.source, np.arange(flat.shape[1])):
        flat = flat[:, how.source]
    numbers = logarithms(flat, how.log) if how.log.any() else flat
    encoded = (numbers - how.mean) / how.std
    if how.categories.any():
        encoded = np.where(how.categories, flat == how.code, encoded)
    return encoded.astype(np.float32, copy=False).reshape(len(x), *schema.encoded_shape)


def logarithms(x: np.ndarray, log: np.ndarray) -> np.ndarray:
    """`x` [n, w] as sign(x) ln(1 + |x| / log) where `log` [w] is above 0, else as it is."""
    unit = np.where(log > 0, log, np.inf)
    return np.where(log > 0, np.sign(x) * np.log1p(np.abs(x) / unit), x)


def targets(schema: "Schema", x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What a model is to give for examples x float32 [n, ...] with stored labels y: numbers standardized.

    Returns:
        int64 [n, ...] for classes and sequences, else float32 [n, schema.outputs].
    """
    label = schema.label
    if label.kind in ("class", "sequence"):
        return y
    if label.kind == "none":
        return encode(schema, x).reshape(len(x), -1)
    flat = y.reshape(len(y), -1)
    if label.kind == "number" and label.mean:
        flat = (flat - np.array(label.mean, np.float32)) / np.array(label.std, np.float32)
    return flat.astype(np.float32)


def standardized(schema: "Schema", outputs: np.ndarray) -> np.ndarray:
    """Numbers float32 [n, schema.outputs] that an inference model gave, as the model learns them."""
    label = schema.label
    if label.kind != "number" or not label.mean:
        return outputs
    return (outputs - np.array(label.mean, np.float32)) / np.array(label.std, np.float32)


def answers(schema: "Schema", raw: np.ndarray) -> np.ndarray:
    """What a model's raw outputs [n, ...] mean, float32 [n, schema.outputs]: probabilities, or numbers in their unit.

    Raw outputs are logits for classes and standardized numbers otherwise; `Finish` of Keras models does the same.
    """
    label, raw = schema.label, raw.astype(np.float32)
    if label.kind in ("class", "sequence"):
        grown = np.exp(raw - raw.max(axis=-1, keepdims=True))
        raw = grown / grown.sum(axis=-1, keepdims=True)
    elif label.kind == "multi-label":
        raw = 0.5 * (1 + np.tanh(0.5 * raw))
    raw = raw.reshape(len(raw), -1)
    if label.mean:
        raw = raw * np.array(label.std, np.float32) + np.array(label.mean, np.float32)
    return raw
