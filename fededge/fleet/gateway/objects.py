"""Where plans, weights and updates lie, and the URLs under which they are fetched and sent.

    FOLDER/TENANT/objects/AB/ABCD...             plans and weights, named by the SHA-256 of their bytes
    FOLDER/TENANT/objects/AB/ABCD....CLIENT      a client's update, so that none is another's
    FOLDER/TENANT/partial/ABCD....CLIENT         what is being sent, in files

In files, an object appears only after its digest was proven. S3 takes whatever its presigned URL allows: there, whoever
fetches an object checks the digest.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from fededge import storage
from fededge.errors import StorageError
from fededge.fleet.gateway.grants import Grant, Keys

FOLDER = "fleet"
LINK_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """Where to PUT an object; `offset`: bytes that are there already."""

    url: str
    offset: int
    resumable: bool


class Objects(Protocol):
    """A store of objects. Its methods read and write files or a network: they are called in threads.

    Attributes:
        through_gateway: whether bytes pass through this gateway, which counts them.
    """

    through_gateway: bool

    def size(self, tenant: str, digest: str, owner: str | None) -> int | None:
        """Bytes of an object that is there, whole; None where it is not.

        Args:
            tenant: whose it is.
            digest: of its bytes.
            owner: the client that sent it; None: a pipeline did.
        """

    def place(self, tenant: str, digest: str, size: int, owner: str | None, round: str | None) -> Place:
        """Where `owner` PUTs an object of `size` bytes; `round`: that it is for."""

    def open_place(self, tenant: str, size: int, owner: str, round: str) -> str | None:
        """URL to PUT the update of `size` bytes to that a client will make; None where its digest is needed first."""

    def link(self, tenant: str, digest: str, owner: str | None = None, round: str | None = None) -> str:
        """URL to GET an object from."""

    def remove(self, tenant: str, digest: str, owner: str | None) -> None:
        """Remove an object; where it is not there, that is as good."""

    def sweep(self, before: float) -> int:
        """Remove what nobody went on sending since `before` (seconds since the epoch); how many files."""


class Files:
    """Objects in a folder that each gateway sees.

    Args:
        root: the blob store's folder.
        keys: sign the URLs.
        base: URL of the gateway; empty: objects' URLs are relative to it.
        seconds: for which a URL is good.
        clock: seconds since the epoch.
    """

    through_gateway = True

    def __init__(
        self, root: Path, keys: Keys, base: str, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root / FOLDER
        self._keys = keys
        self._base = f"{base}/" if base else ""
        self._seconds = seconds
        self._clock = clock

    def path(self, tenant: str, digest: str, owner: str | None) -> Path:
        """Where an object lies once it is whole."""
        return self._root.joinpath(tenant, *_place_of(digest, owner))

    def partial(self, grant: Grant) -> Path:
        """Where an object lies while it is sent."""
        name = f"{grant.digest.removeprefix('sha256:')}.{grant.owner or ''}"
        return self._root / grant.tenant / "partial" / name

    def size(self, tenant: str, digest: str, owner: str | None) -> int | None:
        """See Objects."""
        try:
            return self.path(tenant, digest, owner).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failure(self._root, error) from error

    def offset(self, grant: Grant) -> int:
        """Bytes that were sent so far."""
        try:
            return self.partial(grant).stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _failure(self._root, error) from error

    def place(self, tenant: str, digest: str, size: int, owner: str | None, round: str | None) -> Place:
        """See Objects."""
        grant = Grant("PUT", tenant, digest, size, self._clock() + self._seconds, owner, round)
        return Place(self._upload(grant), self.offset(grant), True)

    def open_place(self, tenant: str, size: int, owner: str, round: str) -> str | None:
        """See Objects."""
        return self._upload(Grant("PUT", tenant, "", size, self._clock() + self._seconds, owner, round))

    def link(self, tenant: str, digest: str, owner: str | None = None, round: str | None = None) -> str:
        """See Objects."""
        grant = Grant("GET", tenant, digest, 0, self._clock() + self._seconds, owner, round)
        return f"{self._base}v1/objects/{self._keys.sign(grant)}"

    def _upload(self, grant: Grant) -> str:
        return f"{self._base}v1/uploads/{self._keys.sign(grant)}"

    def remove(self, tenant: str, digest: str, owner: str | None) -> None:
        """See Objects."""
        storage.remove(str(self.path(tenant, digest, owner)))

    def sweep(self, before: float) -> int:
        """See Objects."""
        old = [file for file in self._root.glob("*/partial/*") if _modified(file) < before]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)


class S3:
    """Objects in a bucket, which clients and pipelines reach by presigned URLs.

    Args:
        root: such as s3://BUCKET/FOLDER.
        seconds: for which a URL is good.

    Raises:
        StorageError: the drivers of the store are missing.
    """

    through_gateway = False

    def __init__(self, root: str, seconds: float) -> None:
        self._root = storage.join(root, FOLDER)
        self._system = storage.file_system(root)
        self._seconds = int(seconds)

    def _url(self, tenant: str, digest: str, owner: str | None) -> str:
        return storage.join(self._root, tenant, *_place_of(digest, owner))

    def size(self, tenant: str, digest: str, owner: str | None) -> int | None:
        """See Objects."""
        url = self._url(tenant, digest, owner)
        with storage.named_failure(url):
            try:
                return int(self._system.info(url, refresh=True)["size"])
            except FileNotFoundError:
                return None

    def place(self, tenant: str, digest: str, size: int, owner: str | None, round: str | None) -> Place:
        """See Objects. The signature covers the length: a body of another one is refused by the store."""
        url = self._signed(tenant, digest, owner, client_method="put_object", ContentLength=size)
        return Place(url, 0, False)

    def open_place(self, tenant: str, size: int, owner: str, round: str) -> str | None:
        """See Objects. A URL is signed for one name, and names are digests."""
        return None

    def link(self, tenant: str, digest: str, owner: str | None = None, round: str | None = None) -> str:
        """See Objects."""
        return self._link(tenant, digest, owner, int(time.time() // LINK_SECONDS))

    @lru_cache(maxsize=1024)  # noqa: B019  one store a gateway
    def _link(self, tenant: str, digest: str, owner: str | None, minute: int) -> str:
        """A link to share: signing one takes a millisecond, and a thousand clients fetch the same weights."""
        return self._signed(tenant, digest, owner, client_method="get_object")

    def _signed(self, tenant: str, digest: str, owner: str | None, **parameters: Any) -> str:
        url = self._url(tenant, digest, owner)
        with storage.named_failure(url, "sign a URL of"):
            return str(self._system.sign(url, expiration=self._seconds, **parameters))

    def remove(self, tenant: str, digest: str, owner: str | None) -> None:
        """See Objects."""
        url = self._url(tenant, digest, owner)
        with storage.named_failure(url, "remove"), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(url)

    def sweep(self, before: float) -> int:
        """See Objects. S3 shows no object that is not whole."""
        return 0


def opened(root: str, keys: Keys, base: str, seconds: float) -> Objects:
    """The objects under the URL `root`.

    Raises:
        StorageError: a gateway keeps no objects in such a store.
    """
    folder = storage.local_path(root)
    if folder is not None:
        return Files(folder, keys, base, seconds)
    scheme = urlsplit(root).scheme
    if scheme in ("s3", "s3a"):
        return S3(root, seconds)
    raise StorageError(
        f"a gateway keeps objects in files or S3, not {scheme}: set FEDEDGE_STORAGE to such a URL"
    )


def _place_of(digest: str, owner: str | None) -> tuple[str, ...]:
    name = digest.removeprefix("sha256:")
    return ("objects", name[:2], f"{name}.{owner}" if owner else name)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _failure(root: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot read {root}: {error.strerror}. Fix its permissions, then try again")
