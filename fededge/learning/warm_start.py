"""Weights to start from: those of a state, a registered version, a safetensors file or a framework's checkpoint."""

import tempfile
from pathlib import Path, PurePosixPath

import numpy as np

from fededge import storage, weights
from fededge.errors import TaskError, shown
from fededge.learning.interfaces import ModelSpec
from fededge.learning.state import LIMIT, State
from fededge.weights import Weights

CHECKPOINTS = (".h5", ".hdf5", ".joblib", ".keras", ".pkl", ".pt", ".pth")
"""Names of files that a framework writes end so."""
FROZEN = (
    "model.weights {} has other values of frozen weights or buffers: these do not travel, each process makes them from "
    "the task's seed. Load them in your factory, or let them learn"
)


def read(url: str, model: ModelSpec) -> Weights:
    """The weights at `url`: a state's global weights, a safetensors file's tensors by their names, or those in a
    checkpoint of the framework of `model`, which the end of its name tells.

    Raises:
        StorageError: it cannot be read.
        IntegrityError: it is no safetensors file.
        TaskError: it is no checkpoint of `model`.
    """
    data, name = storage.read(url, LIMIT), PurePosixPath(url).name
    if not name.lower().endswith(CHECKPOINTS):
        return parse(data, url)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        return model.checkpoint(file)


def parse(data: bytes, where: str) -> Weights:
    """As `read`, of bytes; `where` names them in errors.

    Raises:
        IntegrityError: as for `read`.
    """
    if "state" in weights.metadata_of(data):
        return State.from_bytes(data, where).weights
    return weights.from_bytes(data)


def start_from(given: Weights, initial: Weights, what: str) -> Weights:
    """`initial`, with the values of `given` where that names them.

    Args:
        given: float tensors for all variables of the model, or for some.
        initial: of the model.
        what: where they come from, for errors.

    Raises:
        TaskError: a tensor that the model does not have, of another shape, or not finite.
    """
    for name, value in given.items():
        if name not in initial:
            raise TaskError(
                f"model.weights {what} has {shown(name)}, which the model does not: it has "
                f"{shown(', '.join(initial), 300)}"
            )
        if value.shape != initial[name].shape:
            raise TaskError(
                f"model.weights {what} has {shown(name)} of shape {list(value.shape)} where the model's is "
                f"{list(initial[name].shape)}: give weights of the same model"
            )
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise TaskError(f"model.weights {what}: {shown(name)} is not finite floating point numbers")
    return {name: given.get(name, value).astype(np.float32) for name, value in initial.items()}
