"""An .npz file with training and test arrays, read row by row: a compressed one is never whole in memory."""

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from typing import IO, Any

import numpy as np

from fededge import storage
from fededge.errors import DataError, StorageError
from fededge.examples import BLOCK, MALFORMED
from fededge.learning.data.arrays import Raw, from_arrays
from fededge.learning.data.source import Source
from fededge.task import FileData

LIMIT = 8 << 30
"""Most bytes of a file that lies elsewhere, and of the labels in one."""
BROKEN = (*MALFORMED, RuntimeError, NotImplementedError, zipfile.BadZipFile, LZMAError, zlib.error)


def open_source(data: FileData, seed: int, column: str | None) -> Source:
    """x_train, y_train, x_test and y_test, and the arrays with owners and times that the task names.

    Raises:
        DataError: one is missing, or the file is none of numbers and words.
        StorageError: it cannot be read.
    """
    remote = None if storage.local_path(data.path) is not None else storage.read(data.path, LIMIT)
    extra = {"owners": data.key, "times": data.time}
    none = data.kind == "none"
    labels = [] if none else ["y_train", "y_test"]
    wanted = ["x_train", "x_test", *labels, *filter(None, extra.values())]

    def passes() -> Iterator[Raw]:
        with _archive(data.path, remote) as archive:
            missing = [name for name in sorted(wanted, key=_order) if f"{name}.npy" not in archive.namelist()]
            if missing:
                names = sorted(name.removesuffix(".npy") for name in archive.namelist())[:10]
                raise DataError(f"{data.path} lacks {', '.join(missing)}; it has {names}")
            small = {name: _whole(archive, name) for name in wanted if not name.startswith("x_")}
            for part, held in (("train", False), ("test", True)):
                described = {key: small[name] for key, name in extra.items() if name and not held}
                y = None if none else small[f"y_{part}"]
                yield from _rows(archive, f"x_{part}", y, described, held, data.path)

    return from_arrays(data.path, passes, data, tokens=data.tokens)


def _order(name: str) -> tuple[bool, bool, str]:
    return name.startswith(("x", "y")) is False, name.endswith("test"), name


@contextlib.contextmanager
def _archive(path: str, remote: bytes | None) -> Iterator[zipfile.ZipFile]:
    try:
        local = storage.local_path(path)
        opened: Any = io.BytesIO(remote) if remote is not None else local
        if local is not None and not local.is_file():
            raise StorageError(f"cannot read {path}: there is no such file. Check the path")
        with zipfile.ZipFile(opened) as archive:
            yield archive
    except BROKEN as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not an .npz file without pickled objects: {told}") from error


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """The array's bytes, its shape and dtype: refused where the header promises other bytes than there are."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is an .npy file of version {version}")
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        if dtype.hasobject or dtype.kind not in "biufUS" or not dtype.itemsize:
            raise ValueError(f"{name} holds {dtype}; no pickled objects are loaded")
        if fortran and len(shape) > 1:
            raise ValueError(f"{name} is in Fortran's order: save numpy.ascontiguousarray of it")
        if not shape or any(size < 0 for size in shape):
            raise ValueError(f"{name} has the shape {shape}")
        promised, there = (
            _product(shape) * dtype.itemsize,
            archive.getinfo(f"{name}.npy").file_size - file.tell(),
        )
        if promised != there:
            raise ValueError(f"{name} has {there:,} bytes where its header says {promised:,}")
        yield file, shape, dtype


def _whole(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with _member(archive, name) as (file, shape, dtype):
        size = _product(shape) * dtype.itemsize
        if size > LIMIT:
            raise ValueError(f"{name} is larger than {LIMIT:,} bytes")
        found = np.frombuffer(_exactly(file, size), dtype).reshape(shape)
        file.read()  # to the end, where its checksum is compared
    return found.astype(str) if dtype.kind == "S" else found


def _rows(
    archive: zipfile.ZipFile,
    name: str,
    y: np.ndarray | None,
    described: dict[str, np.ndarray],
    held: bool,
    path: str,
) -> Iterator[Raw]:
    with _member(archive, name) as (file, shape, dtype):
        for what, values in [("labels", y), *described.items()]:
            if values is not None and (len(values) != shape[0] or (what != "labels" and values.ndim != 1)):
                raise DataError(
                    f"{path}: {what} have shape {values.shape} for {shape[0]} examples: give one label each"
                    if what == "labels"
                    else f"{path}: the key array must name one of {what} per training example"
                )
        if not shape[0]:
            part = "test" if held else "training"
            raise DataError(
                f"{path}: 0 {part} examples, where training and test examples are both needed: add some"
            )
        each = _product(shape[1:]) * dtype.itemsize
        step = max(1, BLOCK // max(1, each))
        for start in range(0, shape[0], step):
            rows = slice(start, min(start + step, shape[0]))
            block = np.frombuffer(_exactly(file, each * (rows.stop - start)), dtype)
            x = block.reshape(rows.stop - start, *shape[1:])
            yield Raw(
                x,
                None if y is None else y[rows],
                held=held,
                **{key: values[rows] for key, values in described.items()},
            )
        file.read()


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("it is cut short")
    return data


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size
