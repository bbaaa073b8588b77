import os
from pathlib import Path

import pytest

from fededge import storage
from fededge.errors import GatewayError, StorageError
from fededge.fleet.gateway import objects
from fededge.fleet.gateway.grants import Grant, Keys
from fededge.fleet.gateway.objects import Files
from fededge.fleet.gateway.uploads import Upload

DATA = b"an object"
DIGEST = storage.digest(DATA)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, Keys(bytes(32)), "", 60.0)


def grant(owner: str | None = "site", digest: str = DIGEST) -> Grant:
    return Grant("PUT", "default", digest, len(DATA), 1e12, owner)


def test_an_object_is_there_once_it_is_whole_and_synced(files: Files) -> None:
    upload = Upload(files, grant(), 0)
    upload.write([DATA[:4]])
    assert files.size("default", DIGEST, "site") is None
    assert not upload.finish([b""])
    assert upload.finish([DATA[4:]])
    assert files.size("default", DIGEST, "site") is None
    upload.settle()
    upload.close()
    assert files.size("default", DIGEST, "site") == len(DATA)
    assert files.path("default", DIGEST, "site").read_bytes() == DATA
    assert files.size("default", DIGEST, "other") is None
    assert files.size("default", DIGEST, None) is None
    assert files.size("another", DIGEST, "site") is None


def test_an_upload_goes_on_with_the_digest_of_what_is_there(files: Files) -> None:
    upload = Upload(files, grant(), 0)
    upload.write([DATA[:6]])
    upload.close()
    assert files.offset(grant()) == 6
    upload = Upload(files, grant(), 6)
    assert upload.finish([DATA[6:]])
    upload.close()


def test_a_process_that_was_killed_leaves_no_lock(files: Files) -> None:
    child = os.fork()
    if not child:
        Upload(files, grant(), 0).write([DATA[:6]])
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    upload = Upload(files, grant(), 6)
    assert upload.finish([DATA[6:]])
    upload.close()


def test_two_uploads_of_one_object_are_refused(files: Files) -> None:
    first = Upload(files, grant(), 0)
    with pytest.raises(GatewayError, match="another request sends this object") as refused:
        Upload(files, grant(), 0)
    assert (refused.value.reason, refused.value.status) == ("BUSY", 503)
    first.close()
    Upload(files, grant(), 0).close()


def test_wrong_bytes_are_forgotten(files: Files) -> None:
    upload = Upload(files, grant(), 0)
    with pytest.raises(GatewayError, match="these bytes have digest"):
        upload.finish([b"123456789"])
    upload.close()
    assert files.offset(grant()) == 0
    assert files.size("default", DIGEST, "site") is None


def test_what_nobody_goes_on_sending_is_swept(files: Files) -> None:
    for name, at in (("old", 1000.0), ("new", 3000.0)):
        upload = Upload(files, grant(name), 0)
        upload.write([DATA[:4]])
        upload.close()
        os.utime(files.partial(grant(name)), (at, at))
    assert files.sweep(2000.0) == 1
    assert (files.offset(grant("old")), files.offset(grant("new"))) == (0, 4)


def test_an_object_is_removed_once(files: Files) -> None:
    upload = Upload(files, grant(), 0)
    assert upload.finish([DATA])
    upload.settle()
    upload.close()
    for _ in range(2):
        files.remove("default", DIGEST, "site")
    assert files.size("default", DIGEST, "site") is None


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("a file")
    files = Files(tmp_path, Keys(bytes(32)), "", 60.0)
    with pytest.raises(StorageError, match=r"cannot write .*Free space"):
        Upload(files, grant(), 0)


def test_links_are_relative_where_no_outer_address_is_known(tmp_path: Path) -> None:
    inner, outer = (
        Files(tmp_path, Keys(bytes(32)), base, 60.0) for base in ("", "https://gateway.example/x")
    )
    assert inner.link("default", DIGEST).startswith("v1/objects/")
    assert outer.link("default", DIGEST).startswith("https://gateway.example/x/v1/objects/")


def test_objects_lie_in_files_or_s3(tmp_path: Path) -> None:
    assert isinstance(objects.opened(tmp_path.as_uri(), Keys(bytes(32)), "", 1.0), Files)
    with pytest.raises(StorageError, match="files or S3, not gs"):
        objects.opened("gs://bucket", Keys(bytes(32)), "", 1.0)
