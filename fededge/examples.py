"""Examples on disk: a folder with x.npy, y.npy and schema.json, which numpy and TensorFlow read without pickle.

    x.npy        [n, *shape], float32; uint8 where the only feature holds levels (0 to 255 stand for 0 to 1)
    y.npy        labels: int64 [n] for classes, int64 [n, steps] for sequences, else float32 [n, ...]; [n, 0] for none
    schema.json  what they are (fededge.documents.Schema)

All features of an example lie side by side in x.npy: one file is read at a fraction of the cost of one for each
column. Each .npy header is HEADER bytes long, as numpy.save writes it, so that a reader of fixed-length records
(TensorFlow's) can skip it.
"""

import os
import tokenize
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from fededge.documents import Schema
from fededge.errors import DataError, StorageError

HEADER = 128
BLOCK = 4 << 20
"""Bytes that are looked at together."""
STEP = 4096
"""Examples that are copied together."""
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


def write(folder: Path, x: np.ndarray, y: np.ndarray, schema: Schema | None = None) -> None:
    """Write x [n, *shape] and y [n, ...] into `folder`, in the dtypes of `schema`, and the schema.

    Without a schema they are float32 numbers with the class of each, int64 [n].

    Raises:
        StorageError: the folder cannot be written.
    """
    dtypes = (schema.dtype, schema.label.dtype) if schema else ("float32", "int64")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values, dtype in zip("xy", (x, y), dtypes, strict=True):
            np.save(folder / f"{name}.npy", np.ascontiguousarray(values, dtype), allow_pickle=False)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error}. Free space or fix permissions, then run again"
        ) from error
    if schema:
        schema.write(folder / "schema.json")


def copy(
    folder: Path, sources: Sequence[tuple[np.ndarray, np.ndarray]], places: np.ndarray, schema: Schema
) -> None:
    """Write examples of `sources` into `folder`, block by block.

    Args:
        folder: made where it is missing.
        sources: pairs of x and y, as `read` gives them.
        places: int64 [n, 2], for each example the number of its source and its place there; n > 0.
        schema: of the examples.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in (("x", 0), ("y", 1)):
            like = sources[0][column]
            path = folder / f"{name}.npy"
            target = np.lib.format.open_memmap(path, "w+", like.dtype, (len(places), *like.shape[1:]))
            for start, block in zip(
                count(0, STEP), np.array_split(places, range(STEP, len(places), STEP)), strict=False
            ):
                for number in np.unique(block[:, 0]):
                    mine = block[:, 0] == number
                    target[start : start + len(block)][mine] = sources[number][column][block[mine, 1]]
            target.flush()
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error}. Free space or fix permissions, then run again"
        ) from error
    schema.write(folder / "schema.json")


def floats(x: np.ndarray) -> np.ndarray:
    """Stored examples as float32: levels from 0 to 255 become numbers from 0 to 1."""
    if x.dtype == np.uint8:
        return np.divide(x, np.float32(255), dtype=np.float32)
    return np.asarray(x, np.float32)


def read(
    folder: str | Path, schema: Schema | None = None, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped x and y of `folder`, checked; n > 0.

    Args:
        folder: holds x.npy and y.npy.
        schema: what they must be, by whatever other statistics schema.json there standardizes them; None takes what
            that says, and without one float32 examples of any shape with any classes.
        limit: most bytes of a file; None takes any.

    Raises:
        DataError: missing, too large, of another schema, dtype or shape, not finite, or with labels out of range.
    """
    folder = Path(folder)
    own = Schema.read(folder / "schema.json") if (folder / "schema.json").exists() else None
    if schema and own and own.form != schema.form:
        raise DataError(
            f"{folder}/schema.json is not the schema of the other clients' data: {_difference(own, schema)}"
        )
    schema = schema or own
    x, y = (_open(folder / f"{name}.npy", limit) for name in "xy")
    shape = schema.shape if schema else x.shape[1:]
    dtype = schema.dtype if schema else "float32"
    if x.dtype != dtype or x.ndim < 2 or x.shape[1:] != shape or len(x) == 0:
        raise DataError(
            f"{folder}/x.npy holds {x.dtype} {list(x.shape)} where {dtype} "
            f"[n, {', '.join(map(str, shape)) or '...'}] with n > 0 is expected: prepare the data again"
        )
    stored = schema.label.stored_shape if schema else ()
    dtype = schema.label.dtype if schema else "int64"
    stored = (0,) if schema and schema.label.kind == "none" else stored
    if y.dtype != dtype or y.shape != (len(x), *stored):
        raise DataError(
            f"{folder}/y.npy holds {y.dtype} {list(y.shape)} where {dtype} {[len(x), *stored]} is expected: prepare "
            "the data again"
        )
    if x.offset != HEADER or y.offset != HEADER:
        raise DataError(
            f"{folder}: the .npy headers are not {HEADER} bytes long: save the arrays with numpy.save"
        )
    for name, values in (("x", x), ("y", y)):
        if values.dtype == np.float32 and not all(np.isfinite(block).all() for block in blocks(values)):
            raise DataError(f"{folder}/{name}.npy has NaN or infinite values: clean the data and run again")
    classes = schema.label.classes if schema else None
    if y.dtype == np.int64 and (y.min() < 0 or (classes is not None and y.max() >= classes)):
        raise DataError(
            f"{folder}/y.npy has labels from {y.min()} to {y.max()} where 0 to "
            f"{'...' if classes is None else classes - 1} are expected: correct the labels"
        )
    return x, y


def blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """`values` [n, ...] in pieces of about BLOCK bytes."""
    step = max(1, BLOCK // max(1, values[:1].nbytes))
    for start in range(0, len(values), step):
        yield values[start : start + step]


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


def _difference(found: Schema, wanted: Schema) -> str:
    """The first thing that differs in their form, for people."""
    for mine, other in zip(found.form["features"], wanted.form["features"], strict=False):
        if mine != other:
            return f"its feature {mine['name']} is not the others' {other['name']}: prepare it as they did"
    if len(found.features) != len(wanted.features):
        return f"it has {len(found.features)} features where they have {len(wanted.features)}"
    return "its label is another"


def _open(path: Path, limit: int | None) -> np.memmap:
    try:
        if limit is not None and os.path.getsize(path) > limit:
            raise DataError(f"{path} is larger than the {limit:,} bytes accepted here: give fewer examples")
        return open_array(path)
    except MALFORMED as error:
        raise DataError(f"cannot read {path}: {error}. Prepare the data again") from error
