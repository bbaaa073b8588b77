"""Labeled examples on disk: a folder with x.npy and y.npy, which numpy and TensorFlow read without pickle.

x is float32 [n, ...] and y int64 [n]. Each .npy header is HEADER bytes long, as numpy.save writes it, so
that a reader of fixed-length records (TensorFlow's) can skip it.
"""

import os
import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fededge.errors import DataError, StorageError

HEADER = 128
MALFORMED = (
    OSError,
    EOFError,
    MemoryError,
    OverflowError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
"""What numpy raises for bytes that are not an .npy array without pickled objects; its header is Python's syntax."""


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


def read(
    folder: str | Path,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    limit: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped x float32 [n, *shape] and y int64 [n] of `folder`, checked; n > 0.

    Args:
        folder: holds x.npy and y.npy.
        shape: of one example; None takes any.
        classes: labels lie in [0, classes); None takes any.
        limit: most bytes of a file; None takes any.

    Raises:
        DataError: missing, too large, of another type or shape, not finite, or with labels out of range.
    """
    x, y = (_open(Path(folder) / f"{name}.npy", limit) for name in "xy")
    wanted = x.shape[1:] if shape is None else tuple(shape)
    if x.dtype != np.float32 or x.ndim < 2 or x.shape[1:] != wanted or len(x) == 0:
        raise DataError(
            f"{folder}/x.npy holds {x.dtype} {list(x.shape)} where float32 "
            f"[n, {', '.join(map(str, wanted)) or '...'}] with n > 0 is expected: prepare the data again"
        )
    if y.dtype != np.int64 or y.shape != (len(x),):
        raise DataError(
            f"{folder}/y.npy holds {y.dtype} {list(y.shape)} where int64 [{len(x)}] is expected: prepare the "
            "data again"
        )
    if x.offset != HEADER or y.offset != HEADER:
        raise DataError(
            f"{folder}: the .npy headers are not {HEADER} bytes long: save the arrays with numpy.save"
        )
    if not np.isfinite(x).all():
        raise DataError(f"{folder}/x.npy has NaN or infinite values: clean the data and run again")
    if y.min() < 0 or (classes is not None and y.max() >= classes):
        raise DataError(
            f"{folder}/y.npy has labels from {y.min()} to {y.max()} where 0 to "
            f"{'...' if classes is None else classes - 1} are expected: correct the labels"
        )
    return x, y


def open_array(path: Path) -> np.memmap:
    """The memory-mapped numbers in an untrusted .npy file.

    Its header is looked at first: numpy divides by the size of an element, and a header with one of 0 bytes
    would end the process (SIGFPE).

    Raises:
        OSError, ValueError ...: one of MALFORMED.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in headers:
            raise ValueError(f"an .npy file of version {version}")
        dtype = headers[version](file)[2]
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}, which are no numbers")
    return np.lib.format.open_memmap(path, mode="r")


def _open(path: Path, limit: int | None) -> np.memmap:
    try:
        if limit is not None and os.path.getsize(path) > limit:
            raise DataError(f"{path} is larger than the {limit:,} bytes accepted here: give fewer examples")
        return open_array(path)
    except MALFORMED as error:
        raise DataError(f"cannot read {path}: {error}. Prepare the data again") from error
