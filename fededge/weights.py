"""Model weights as named float32 tensors, and their one byte format: safetensors.

A set of weights is a `dict[str, numpy.ndarray]`, float32, in the order of the model's variables.
"""

import json
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fededge.errors import IntegrityError, shown
from fededge.storage import digest

Weights = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]


def to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """`tensors` as safetensors bytes; the same tensors always give the same bytes."""
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    return bytes(save(contiguous, dict(metadata) if metadata else None))


def from_bytes(data: bytes) -> Weights:
    """The tensors in safetensors `data`, sorted by name.

    Raises:
        IntegrityError: `data` is not well-formed safetensors.
    """
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(f"not a safetensors file: {shown(str(error), 200)}. Make it again") from error
    return {name: tensors[name] for name in sorted(tensors)}


def metadata_of(data: bytes) -> dict[str, str]:
    """The string metadata in the header of safetensors `data` (empty where it has none).

    Raises:
        IntegrityError: `data` has no such header.
    """
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size]) if size <= len(data) - 8 else None
    except (ValueError, RecursionError) as error:
        raise IntegrityError("not a safetensors file: its header is not JSON. Make it again") from error
    found = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise IntegrityError("not a safetensors file: its header is malformed or cut short. Make it again")
    return found


def shapes(weights: Mapping[str, np.ndarray]) -> Shapes:
    """Name to shape."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def digest_of(weights: Mapping[str, np.ndarray]) -> str:
    """Digest of the weights themselves, whatever file they lie in."""
    return digest(to_bytes({name: weights[name] for name in sorted(weights)}))
