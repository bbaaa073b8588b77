"""Examples appended to files of known length: what is in memory is one batch.

`fededge.examples` describes the files. Numbers that are missing stay NaN until `fill`.
"""

import shutil
from collections.abc import Iterator, Mapping
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


def fill(folder: Path, values: Mapping[int, float]) -> None:
    """Put `values` where a number is missing, by its place in the flat example."""
    if not values:
        return
    x = np.lib.format.open_memmap(folder / "x.npy", mode="r+")
    places = np.array(list(values))
    stand_ins = np.array(list(values.values()), np.float32)
    for block in examples.blocks(x):
        flat = block.reshape(len(block), -1)
        chosen = flat[:, places]
        flat[:, places] = np.where(np.isnan(chosen), stand_ins, chosen)
    x.flush()


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
