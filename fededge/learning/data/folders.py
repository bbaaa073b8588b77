"""A client's own folder: examples as .npy files that numpy and TensorFlow both read without pickle.

    clients/<id>/train/{x,y}.npy   what the client learns from
    clients/<id>/test/{x,y}.npy    what it evaluates on
    clients/<id>/summary.safetensors   mean, std, min and max of each pixel, for calibration

x is float32 [n, 28, 28, 1], y is int64 [n]. The .npy header is always HEADER bytes, so that
TensorFlow can skip it and read fixed-length records.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fededge import storage, weights
from fededge.errors import DataError, StorageError
from fededge.learning.data import partition, sources
from fededge.task import FederatedTask

HEADER = 128


def prepare(task: FederatedTask, data: Path, test: Path) -> dict[str, Any]:
    """Load, spread and write: client folders under `data`, held-out examples under `test`.

    Returns:
        The population: clients with their counts, shape and number of classes.
    """
    examples = sources.load(task)
    shares = partition.spread(task, examples.y, examples.owners)
    clients: list[dict[str, Any]] = []
    for name, indices in shares.items():
        order = np.random.default_rng([task.seed, 3, len(clients)]).permutation(indices)
        held = min(max(1, round(len(order) * task.partition.local_holdout)), len(order) - 1)
        train, local_test = np.sort(order[held:]), np.sort(order[:held])
        folder = data / "clients" / name
        write(folder / "train", examples.x[train], examples.y[train])
        write(folder / "test", examples.x[local_test], examples.y[local_test])
        storage.write(str(folder / "summary.safetensors"), weights.to_bytes(summary(examples.x[train])))
        counts = np.bincount(examples.y[train], minlength=examples.classes)
        clients.append({"id": name, "train": len(train), "test": len(local_test), "labels": counts.tolist()})
    write(test, examples.test_x, examples.test_y)
    population = {
        "clients": clients,
        "shape": list(examples.x.shape[1:]),
        "classes": examples.classes,
        "examples": len(examples.x),
    }
    storage.write(str(data / "population.json"), json.dumps(population).encode())
    return population


def population(data: str | Path) -> dict[str, Any]:
    """What `prepare` wrote about the clients in the folder `data`."""
    loaded: dict[str, Any] = json.loads(storage.read(str(Path(data) / "population.json"), 1 << 26))
    return loaded


def write(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Write x float32 [n, ...] and y int64 [n] into `folder`.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "x.npy", np.ascontiguousarray(x, np.float32), allow_pickle=False)
        np.save(folder / "y.npy", np.ascontiguousarray(y, np.int64), allow_pickle=False)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error}. Free space or fix permissions, then run again"
        ) from error


def read(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped x float32 [n, 28, 28, 1] and y int64 [n] of `folder`, checked.

    Raises:
        DataError: missing, of another type or shape, not finite, or with labels out of range.
    """
    x, y = (_open(Path(folder) / f"{name}.npy") for name in "xy")
    if x.dtype != np.float32 or x.shape[1:] != sources.SHAPE or len(x) == 0:
        raise DataError(
            f"{folder}/x.npy holds {x.dtype} {x.shape} where float32 (n, 28, 28, 1) with n > 0 is expected"
        )
    if y.dtype != np.int64 or y.shape != (len(x),):
        raise DataError(f"{folder}/y.npy holds {y.dtype} {y.shape} where int64 ({len(x)},) is expected")
    if x.offset != HEADER or y.offset != HEADER:
        raise DataError(
            f"{folder}: the .npy headers are not {HEADER} bytes long: save the arrays with numpy.save"
        )
    if not np.isfinite(x).all():
        raise DataError(f"{folder}/x.npy has NaN or infinite values: clean the data and run again")
    if y.min() < 0 or y.max() > 9:
        raise DataError(f"{folder}/y.npy has labels outside 0 to 9")
    return x, y


def summary(x: np.ndarray) -> dict[str, np.ndarray]:
    """Each pixel's mean, standard deviation, minimum and maximum over x [n, ...]: float32, no example."""
    return {
        "mean": x.mean(axis=0, dtype=np.float64).astype(np.float32),
        "std": x.std(axis=0, dtype=np.float64).astype(np.float32),
        "min": x.min(axis=0),
        "max": x.max(axis=0),
    }


def _open(path: Path) -> np.memmap:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}. Prepare the client's data again") from error
    if not isinstance(array, np.memmap):
        raise DataError(f"{path} is not an .npy file: save the array with numpy.save")
    return array
