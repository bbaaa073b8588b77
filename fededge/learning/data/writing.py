"""Examples appended to files of known length: what is in memory is one batch.

`fededge.examples` describes the files. Numbers that are missing stay NaN until `fill`.
"""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fededge import examples
from fededge.documents import Schema
from fededge.errors import StorageError


@contextmanager
def whole_or_nothing(*folders: Path) -> Iterator[None]:
    """Empty `folders` at first, and remove them where the block fails.

    Raises:
        StorageError: a file in them cannot be written.
    """
    _remove(*folders)
    try:
        yield
    except OSError as error:
        _remove(*folders)
        raise StorageError(
            f"cannot write {error.filename or folders[0]}: {error.strerror or error}. Free space or fix permissions, "
            "then run again"
        ) from error
    except BaseException:
        _remove(*folders)
        raise


class Writer:
    """Folders that get examples one batch after the other.

    Args:
        folders: where examples go, by number.
        counts: how many each gets.
        schema: of the examples.
    """

    def __init__(self, folders: list[Path], counts: list[int], schema: Schema) -> None:
        self._folders = folders
        stored = (0,) if schema.label.kind == "none" else schema.label.stored_shape
        for folder, count in zip(folders, counts, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            _begin(folder / "x.npy", (count, *schema.shape), schema.dtype)
            _begin(folder / "y.npy", (count, *stored), schema.label.dtype)

    def add(self, places: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """Append x and y [n, ...] to the folders of these numbers, int [n]; -1 is nowhere."""
        order = np.argsort(places, kind="stable")
        found, starts = np.unique(places[order], return_index=True)
        for place, rows in zip(found, np.split(order, starts[1:]), strict=True):
            if place < 0:
                continue
            for name, values in (("x", x), ("y", y)):
                with (self._folders[place] / f"{name}.npy").open("ab") as file:
                    file.write(
                        np.ascontiguousarray(values[rows]).data.cast("B") if values[rows].size else b""
                    )


def pieces(path: Path, change: Callable[[np.ndarray], None] | None = None) -> Iterator[np.ndarray]:
    """The array in a file of `Writer` as [n, numbers of an example] of a few megabytes each, never mapped whole.

    `change` may change a piece in place, which is written back.
    """
    with path.open("rb" if change is None else "r+b") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        size = math.prod(shape[1:])
        step = max(1, examples.BLOCK // max(1, size * dtype.itemsize))
        for start in range(0, shape[0] if size else 0, step):
            at = file.tell()
            piece = np.fromfile(file, dtype, min(step, shape[0] - start) * size).reshape(-1, size)
            if change is not None:
                change(piece)
                file.seek(at)
                piece.tofile(file)
            yield piece


def fill(folder: Path, values: Mapping[int, float]) -> None:
    """Put `values` where a number is missing, by its place in the flat example."""
    if not values:
        return
    places = np.array(list(values))
    stand_ins = np.array(list(values.values()), np.float32)

    def filled(piece: np.ndarray) -> None:
        chosen = piece[:, places]
        piece[:, places] = np.where(np.isnan(chosen), stand_ins, chosen)

    for _ in pieces(folder / "x.npy", filled):
        pass


def _begin(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    described = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, described)
        assert file.tell() == examples.HEADER


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
