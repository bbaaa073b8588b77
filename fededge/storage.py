"""Blobs by URL: local files by default, any fsspec file system (s3, gs, abfs, memory) by scheme.

A write becomes visible as a whole or not at all: local files are written beside their target,
synced and renamed; object stores make a put atomic themselves.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fededge.away import until_there
from fededge.errors import IntegrityError, StorageError

CHUNK = 1 << 18
"""Bytes that are copied or hashed at a time."""


def local_path(url: str) -> Path | None:
    """The path behind `url` where it is a plain path or a file:// URL, else None.

    A file URL is percent-encoded, as `Path.as_uri` makes it; `#` and `?` mean themselves.

    Raises:
        StorageError: a file URL names another machine.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url)
    if scheme != "file":
        return None
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise StorageError(f"{url} is a file on a machine {host!r}: a file URL here begins with file:///")
    return Path(unquote(f"/{path}"))


def join(url: str, *parts: str) -> str:
    """`url` with path segments appended; in a file URL they are percent-encoded."""
    segments = [part.strip("/") for part in parts]
    if url.startswith("file://"):
        segments = [quote(segment) for segment in segments]
    return "/".join([url.rstrip("/"), *segments])


def write(url: str, data: bytes, durable: bool = True) -> None:
    """Store `data` at `url`, whole or not at all.

    Args:
        durable: whether it must survive a power cut; what is gone with this process need not, and is not waited for.

    Raises:
        StorageError: the write failed (no space, no permission, no such bucket); what stood at
            `url` before still does.
    """
    path = local_path(url)
    remedy = "Free space, fix permissions or connection, then run again; nothing was half-written"
    with named_failure(url, "write", remedy):
        if path is None:
            until_there(url, lambda: file_system(url).pipe_file(url, data))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)


def read(url: str, limit: int | None = None) -> bytes:
    """The bytes at `url`.

    Args:
        url: where they lie.
        limit: most bytes to accept; a larger blob is refused before it is read whole.

    Raises:
        StorageError: nothing there, no regular file, not readable, or larger than `limit`.
    """
    path = local_path(url)
    with named_failure(url):
        if path is not None:
            data = _read_file(path, limit)
        else:
            data = until_there(url, lambda: _read_blob(url, limit))
    if limit is not None and len(data) > limit:
        raise StorageError(f"{url} is larger than the {limit:,} bytes accepted here")
    return data


def exists(url: str) -> bool:
    """Whether something lies at `url`.

    Raises:
        StorageError: the store cannot be asked.
    """
    path = local_path(url)
    with named_failure(url):
        return path.exists() if path is not None else until_there(url, lambda: _is_blob(url))


def remove(url: str) -> None:
    """Remove the file at `url`; nothing there is as good.

    Raises:
        StorageError: it cannot be removed.
    """
    path = local_path(url)
    with named_failure(url, "remove"):
        if path is not None:
            path.unlink(missing_ok=True)
            return
        if exists(url):
            until_there(url, lambda: file_system(url).rm_file(url))


def remove_folder(url: str) -> None:
    """Remove everything below `url`, and on this machine the folder itself; nothing there is as good.

    Raises:
        StorageError: it cannot be removed.
    """
    path = local_path(url)
    with named_failure(url, "remove"):
        if path is not None:
            if path.exists():
                shutil.rmtree(path)
            return
        if exists(url):
            until_there(url, lambda: file_system(url).rm(url, recursive=True))


def names(url: str) -> list[str]:
    """Sorted names of the files directly in the folder `url`; empty where there is none.

    Raises:
        StorageError: the folder cannot be listed.
    """
    path = local_path(url)
    with named_failure(url):
        if path is not None:
            return sorted(p.name for p in path.iterdir() if p.is_file()) if path.is_dir() else []
        if not exists(url):
            return []
        found = until_there(url, lambda: file_system(url).ls(url, detail=True, refresh=True))
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in found if entry["type"] == "file")


def digest(data: bytes) -> str:
    """`sha256:` and the hexadecimal SHA-256 of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_path(path: str | Path) -> str:
    """Digest of a file, or of a folder: that of its sorted relative names and file digests."""
    path = Path(path)
    hasher = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            hasher.update(f"{file.relative_to(path).as_posix()}\0{digest_path(file)}\n".encode())
    else:
        with path.open("rb") as stream:
            hasher = hashlib.file_digest(stream, "sha256")
    return "sha256:" + hasher.hexdigest()


def state_of(file: str | Path) -> tuple[int, int, int] | None:
    """What tells a local file from the one that it becomes, and is cheap to look at; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_verified(url: str, expected: str, limit: int | None = None) -> bytes:
    """The bytes at `url` if their digest is `expected`.

    Raises:
        IntegrityError: they are other bytes.
        StorageError: they cannot be read.
    """
    data = read(url, limit)
    found = digest(data)
    if found != expected:
        raise IntegrityError(
            f"{url} has digest {found} where {expected} was promised: it was changed or damaged. "
            "Publish it again from a trusted run"
        )
    return data


def _read_file(path: Path, limit: int | None) -> bytes:
    """The bytes of a regular file, up to one more than `limit`. What is none is refused, and never waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{path} is not a regular file: name a file")
        with open(descriptor, "rb", closefd=False) as file:
            # All of it where its size allows, since read(n) takes memory for n bytes beforehand.
            return file.read(limit + 1) if limit is not None and found.st_size > limit else file.read()
    finally:
        os.close(descriptor)


def _read_blob(url: str, limit: int | None) -> bytes:
    """The bytes of a blob, up to one more than `limit`."""
    with file_system(url).open(url, "rb") as stream:
        data: bytes = stream.read() if limit is None else stream.read(limit + 1)
    return data


def _is_blob(url: str) -> bool:
    return bool(file_system(url).exists(url))


def file_system(url: str) -> Any:
    """The fsspec file system of `url`.

    Raises:
        StorageError: the package for its scheme is missing.
    """
    import fsspec

    # What this switches off asks Google's control API, over gRPC and with further rights, about each bucket.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ImportError, ValueError) as error:
        raise StorageError(
            f"no file system for {url}: {error}. Install the fsspec package for its scheme"
        ) from error


@contextlib.contextmanager
def named_failure(
    url: str, action: str = "read", remedy: str = "Check the URL, its permissions and the connection"
) -> Iterator[None]:
    """Raise StorageError for what the store of `url` raises; each remote one has errors of its own."""
    failures = (OSError, ValueError) if local_path(url) is not None else (Exception,)
    try:
        yield
    except StorageError:
        raise
    except failures as error:
        reason = str(error) if str(error) not in ("", "None") else type(error).__name__
        raise StorageError(f"cannot {action} {url}: {reason}. {remedy}") from error


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
