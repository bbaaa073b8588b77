"""Archives of folders: the same bytes for the same files, and back."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from fededge import archives
from fededge.errors import IntegrityError, StorageError

pytestmark = pytest.mark.environment("platform", "worker", "serving", "edge")


def folder(place: Path, mode: int = 0o644) -> Path:
    (place / "inner").mkdir(parents=True)
    for name, data in (("b", b"2"), ("inner/a", b"1"), ("c.npy", bytes(1000))):
        (place / name).write_bytes(data)
        (place / name).chmod(mode)
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*") if file.is_file()}


def test_the_same_files_are_the_same_bytes_whenever_and_by_whom_they_were_written(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first"), folder(tmp_path / "second", 0o600)
    os.utime(second / "b", (1e9, 1e9))
    assert archives.packed(first) == archives.packed(second)
    (second / "b").write_bytes(b"3")
    assert archives.packed(first) != archives.packed(second)


def test_a_folder_comes_back_whole_and_what_stands_there_is_left_alone(tmp_path: Path) -> None:
    first = folder(tmp_path / "first")
    archives.unpack(archives.packed(first), tmp_path / "new" / "copy")
    assert contents(tmp_path / "new" / "copy") == contents(first)
    (first / "b").write_bytes(b"other")
    archives.unpack(archives.packed(first), tmp_path / "new" / "copy")
    assert contents(tmp_path / "new" / "copy")["b"] == b"2"
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["copy"]


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../out", b"1")
        archive.writestr("/absolute", b"2")
    archives.unpack(buffer.getvalue(), tmp_path / "a" / "b" / "c")
    assert set(contents(tmp_path)) == {"a/b/c/out", "a/b/c/absolute"}


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", bytes(100)])
def test_what_is_no_archive_leaves_nothing(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no zip archive"):
        archives.unpack(data, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot unpack"):
        archives.unpack(archives.packed(folder(tmp_path / "first")), tmp_path / "file" / "copy")
