"""Blobs: whole or not at all, by any URL, against their digest."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge import storage
from fededge.errors import IntegrityError, StorageError

pytestmark = pytest.mark.environment("platform", "worker", "serving", "edge")


@given(data=st.binary(max_size=2000))
def test_what_is_written_is_read_back(data: bytes) -> None:
    storage.write("memory://blobs/one", data)
    assert storage.read("memory://blobs/one") == data
    assert storage.read_verified("memory://blobs/one", storage.digest(data)) == data


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_local_files_and_file_urls_are_the_same_place(tmp_path: Path, prefix: str) -> None:
    storage.write(f"{prefix}{tmp_path}/a/b", b"x")
    assert (tmp_path / "a" / "b").read_bytes() == b"x"
    assert storage.exists(f"{prefix}{tmp_path}/a/b")
    assert storage.names(f"{prefix}{tmp_path}/a") == ["b"]
    assert storage.names(f"{prefix}{tmp_path}/none") == []


@pytest.mark.parametrize("name", ["with space", "a#b", "a?b=c", "100%41", "josé", "a&b+c;d'e", "-", "ü/%/#"])
def test_any_folder_is_a_store_by_its_url(tmp_path: Path, name: str) -> None:
    root = (tmp_path / name).as_uri()
    url = storage.join(root, "models", f"{name} blob")
    storage.write(url, b"x")
    assert (tmp_path / name / "models" / f"{name} blob").read_bytes() == b"x"
    assert storage.read(url) == b"x"
    assert storage.local_path(url) == tmp_path / name / "models" / f"{name} blob"
    assert storage.join(str(tmp_path), name) == str(tmp_path / name)


def test_what_is_special_in_other_urls_is_part_of_a_file_s_name(tmp_path: Path) -> None:
    storage.write(f"file://{tmp_path}/a#b?c", b"x")
    assert (tmp_path / "a#b?c").read_bytes() == b"x"
    assert storage.read(f"file://localhost{tmp_path}/a%23b%3Fc") == b"x"


@pytest.mark.parametrize("url", ["http://[x", "s3://[x/y", "nosuch://x/y"])
@pytest.mark.parametrize("ask", [storage.read, storage.exists, storage.names, storage.remove])
def test_what_is_no_url_of_a_store_is_named(url: str, ask: Callable[[str], object]) -> None:
    with pytest.raises(StorageError, match=re.escape(url)) as caught:
        ask(url)
    assert "\n" not in str(caught.value)


def test_a_file_on_another_machine_is_refused() -> None:
    with pytest.raises(StorageError, match="begins with file:///"):
        storage.write("file://home/me/x", b"x")


def test_a_failing_write_leaves_what_was_there_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "blob"
    storage.write(str(target), b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        storage.write(str(target), b"new")
    assert target.read_bytes() == b"old"
    storage.write(str(target), b"gone with the process", durable=False)
    assert target.read_bytes() == b"gone with the process"
    assert os.listdir(tmp_path) == ["blob"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    import signal

    target = tmp_path / "blob"
    storage.write(str(target), b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageError, match="nothing was half-written"):
            storage.write(str(target), b"n" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["blob"]


def test_other_bytes_than_promised_are_refused(tmp_path: Path) -> None:
    url = str(tmp_path / "blob")
    storage.write(url, b"abc")
    promised = storage.digest(b"abc")
    storage.write(url, b"abd")
    with pytest.raises(IntegrityError, match="changed or damaged"):
        storage.read_verified(url, promised)


@pytest.mark.parametrize("prefix", ["{}/", "memory://m/"])
def test_a_blob_beyond_the_limit_or_absent_is_refused(tmp_path: Path, prefix: str) -> None:
    url = prefix.format(tmp_path) + "big"
    storage.write(url, b"12345")
    assert storage.read(url, limit=5) == b"12345"
    with pytest.raises(StorageError, match="larger than"):
        storage.read(url, limit=4)
    with pytest.raises(StorageError, match="cannot read"):
        storage.read(url + "-none")


@pytest.mark.parametrize("prefix", ["{}", "memory://folder"])
def test_a_folder_is_removed_with_all_below_and_none_there_is_as_good(tmp_path: Path, prefix: str) -> None:
    root = prefix.format(tmp_path)
    for place in ("gone/a", "gone/inner/b", "stays/c"):
        storage.write(storage.join(root, place), b"1")
    for _ in range(2):
        storage.remove_folder(storage.join(root, "gone"))
    assert not storage.exists(storage.join(root, "gone", "inner", "b"))
    assert storage.names(storage.join(root, "stays")) == ["c"]


def test_the_digest_of_a_folder_tells_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"1")
    assert storage.digest_path(tmp_path / "one") == storage.digest_path(tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "b")
    assert storage.digest_path(tmp_path / "one") != storage.digest_path(tmp_path / "two")


class Broken(fsspec.AbstractFileSystem):
    """A store whose every call fails by an error of its own."""

    protocol = "broken"

    def _fail(self, *args: object, **options: object) -> None:
        raise RuntimeError("connection lost")

    pipe_file = _open = exists = ls = _fail


@pytest.mark.parametrize(
    "ask",
    [
        storage.read,
        storage.exists,
        storage.names,
        storage.remove_folder,
        lambda url: storage.write(url, b"x"),
    ],
    ids=["read", "exists", "names", "remove_folder", "write"],
)
def test_a_store_that_fails_in_its_own_way_is_named(ask: Callable[[str], object]) -> None:
    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(StorageError, match="broken://bucket/x: connection lost"):
        ask("broken://bucket/x")


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(StorageError, match="not a regular file"):
            storage.read(str(path), 10)


def test_a_limit_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    assert storage.read(str(tmp_path / "x"), 1 << 50) == b"x"
