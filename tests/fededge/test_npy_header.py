"""Rows of an .npy file, counted as numpy counts them, or refused."""

from pathlib import Path

import numpy as np
import pytest

from fededge.errors import DataError
from fededge.npy_header import rows

pytestmark = pytest.mark.environment("platform", "worker", "edge")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((7, 3), np.float32),
        np.zeros((0, 28, 28, 1), np.uint8),
        np.zeros(5, np.int64),
        np.asfortranarray(np.zeros((4, 2), ">f8")),
        np.zeros((3, 0), np.float32),
    ],
)
def test_rows_are_counted_as_numpy_counts_them(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    assert rows(tmp_path / "x.npy") == len(array)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    assert rows(tmp_path / "x.npy") == len(array)


def test_what_is_no_array_of_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.zeros((7, 3), np.float32))
    whole = file.read_bytes()
    wrong = [
        b"",
        whole[:9],
        whole[:60],
        whole[:-1],
        whole.replace(b"(7, 3)", b"(-7,3)"),
        whole.replace(b"(7, 3)", b"()    "),
        whole.replace(b"'<f4'", b"'|O0'"),
        b"\x93NUMPY\x03\x00" + whole[8:],
        whole.replace(b"{", b"(", 1),
    ]
    for data in wrong:
        file.write_bytes(data)
        with pytest.raises(DataError, match="Prepare the data again"):
            rows(file)
    with pytest.raises(DataError):
        rows(tmp_path)
    with pytest.raises(DataError):
        rows(tmp_path / "missing")
