"""Data files of an enemy: read, or refused by name in one line."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fededge.errors import DataError
from fededge.learning.data.source import Batch
from fededge.learning.data.sources import open_source
from fededge.learning.data.survey import checked
from fededge.task import CsvData, FileData, LocalData, ParquetData
from tests.attacks.hostile import CASES, mutants, read_or_refused

pytestmark = pytest.mark.environment("worker")

FEW = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
IMAGES = np.zeros((6, 28, 28), np.uint8)
GOOD: dict[str, Any] = {
    "x_train": IMAGES,
    "y_train": np.arange(6),
    "x_test": IMAGES,
    "y_test": np.arange(6),
    "owner": np.array(["a", "b"] * 3),
}


def archive(members: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An .npz file of arrays, or of bytes in place of one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, value in members.items():
            if not isinstance(value, bytes):
                array = io.BytesIO()
                np.save(array, value)
                value = array.getvalue()
            file.writestr(f"{name}.npy", value)
    return stream.getvalue()


def npy(descr: str, shape: str) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ARCHIVES = [archive(GOOD, method) for method in METHODS]
DTYPES = [
    "uint64",
    "int8",
    "float16",
    "float64",
    "complex64",
    "bool",
    "datetime64[s]",
    "S3",
    "U3",
    "V4",
    "V0",
]
SHAPES = ["(6,)", "(-1,)", "(1000000000000,)", "(999999999999999999999999,)", "(0, 28, 28)", "()", "5"]


def read_all(data: LocalData) -> list[Batch]:
    return list(checked(open_source(data, 0)))


def refused_or_read(folder: Path, data: bytes) -> None:
    path = folder / "data.npz"
    path.write_bytes(data)
    found = read_or_refused(lambda: read_all(FileData(source="npz", path=str(path), key="owner")))
    for batch in found or ():
        assert batch.x.dtype in (np.float32, np.uint8)
        assert batch.y.dtype in (np.int64, np.float32)
        assert len(batch.x) == len(batch.y)
        assert np.isfinite(batch.x).all()
        assert np.isfinite(batch.y).all()


@FEW
@given(mutants(ARCHIVES))
def test_changed_files_are_read_or_refused_by_name(tmp_path: Path, data: bytes) -> None:
    refused_or_read(tmp_path, data)


@FEW
@given(st.sampled_from(sorted(GOOD)), mutants([npy("'|u1'", "(6,)")]))
@example("owner", npy("'\x01,|u1'", "(6,)"))
def test_changed_members_are_read_or_refused_by_name(tmp_path: Path, name: str, member: bytes) -> None:
    refused_or_read(tmp_path, archive(GOOD | {name: member}))


@pytest.mark.parametrize("name", sorted(GOOD))
def test_members_that_lie_are_refused_by_name(tmp_path: Path, name: str) -> None:
    for dtype in DTYPES:
        for shape in SHAPES:
            refused_or_read(tmp_path, archive(GOOD | {name: npy(repr(np.dtype(dtype).str), shape)}))


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_other_types_are_read_or_refused_by_name(tmp_path: Path, dtype: str) -> None:
    for name, good in GOOD.items():
        refused_or_read(tmp_path, archive(GOOD | {name: np.zeros(good.shape, dtype)}))


def test_names_with_control_characters_are_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(archive({"\x1b[2J\n": IMAGES}))
    with pytest.raises(DataError) as caught:
        read_all(FileData(source="npz", path=str(path)))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", sorted(path.name for path in (CASES / "data").iterdir()))
def test_what_once_did_harm_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = CASES / "data" / name
    assert read_or_refused(lambda: read_all(FileData(source="npz", path=str(path)))) is None


CSV = b"age,color,when,label\n" + b"".join(
    b"%d,%s,2026-01-0%d,%s\n" % (n, (b"red", b'"a,b"')[n % 2], 1 + n % 9, (b"x", b"y")[n % 2])
    for n in range(20)
)


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"age": range(20), "color": ["red", "blue"] * 10, "label": ["x", "y"] * 10})
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@FEW
@given(mutants([CSV, CSV.replace(b",", b";"), CSV.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + CSV]))
def test_changed_csv_files_are_read_or_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(data)
    for batch in (
        read_or_refused(lambda: read_all(CsvData(source="csv", path=str(path), label="label"))) or ()
    ):
        assert np.isfinite(batch.x).all()


@FEW
@given(mutants([parquet()]))
def test_changed_parquet_files_are_read_or_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(data)
    for batch in (
        read_or_refused(lambda: read_all(ParquetData(source="parquet", path=str(path), label="label"))) or ()
    ):
        assert np.isfinite(batch.x).all()
