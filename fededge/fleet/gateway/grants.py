"""URLs that are their own credential: each opens one object, one way, for a short time.

The last segment of such a URL is a grant: the version of a key, a JSON array, and the HMAC-SHA256 (RFC 2104) of both
under that key, in signs that URLs take as they are. A key's version is told by its digest.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from fededge import settings, storage
from fededge.errors import GatewayError, StorageError, shown
from fededge.protocol.fields import Bytes, Digest, Id, Name

KEY_BYTES = 32
FILE_LIMIT = 1 << 14
LONGEST = 2048
"""Most characters of a grant."""
Method = Literal["GET", "PUT"]


@dataclass(frozen=True)
class Grant:
    """What a URL allows.

    Attributes:
        method: GET (and HEAD) or PUT (and HEAD).
        digest: of the object; empty for an update that is not made yet: then the PUT tells it.
        owner: the client that writes, None where a pipeline does.
        bytes: the one size that an object which is PUT has; 0 for GET.
        expires: in seconds since the epoch.
        round: whose bytes are counted, None for none.
    """

    method: Method
    tenant: Name
    digest: Digest | Literal[""]
    bytes: Bytes
    expires: float
    owner: Name | None = None
    round: Id | None = None


_Fields = tuple[Method, Name, Digest | Literal[""], Bytes, float, Name | None, Id | None]
_FIELDS: TypeAdapter[_Fields] = TypeAdapter(_Fields)


class Keys:
    """The keys of a gateway's URLs. Its text forms never show one.

    Args:
        keys: the first signs, each is taken.
    """

    def __init__(self, *keys: bytes) -> None:
        self._keys = {hashlib.sha256(b"fededge grant key\0" + key).hexdigest()[:8]: key for key in keys}

    def __repr__(self) -> str:
        return f"Keys({', '.join(self._keys)})"

    @classmethod
    def load(cls, path: Path) -> "Keys":
        """The key in the file `path`, and the one before it in the file with `.old` after its name, where there is one.

        Raises:
            StorageError: a file cannot be read, or is too short to be a secret.
        """
        old = path.with_name(f"{path.name}.old")
        return cls(*(_read(file) for file in (path, old) if file == path or file.exists()))

    @classmethod
    def of_home(cls) -> "Keys":
        """The key in the home folder, made there first (mode 0600) where none is.

        Raises:
            StorageError: it cannot be read or made.
        """
        path = settings.home() / "gateway" / "urls.key"
        if not path.exists():
            _create(path)
        return cls.load(path)

    def sign(self, grant: Grant) -> str:
        """`grant` as a segment of a URL."""
        version = next(iter(self._keys))
        content = [
            grant.method,
            grant.tenant,
            grant.digest,
            grant.bytes,
            grant.expires,
            grant.owner,
            grant.round,
        ]
        payload = _text(json.dumps(content, separators=(",", ":")).encode())
        return f"{version}.{payload}.{_text(self._mac(version, payload))}"

    def opened(self, text: str, method: Method, now: float) -> Grant:
        """What the segment `text` allows.

        Raises:
            GatewayError: it is altered, expired, or allows something else (403).
        """
        version, payload, mac = [*text.split("."), "", "", ""][:3] if len(text) <= LONGEST else ("", "", "")
        if version not in self._keys or not hmac.compare_digest(
            _text(self._mac(version, payload)).encode(), mac.encode()
        ):
            raise GatewayError("this URL was not made here, or altered: ask for a new one", "FORBIDDEN", 403)
        try:
            grant = Grant(
                *_FIELDS.validate_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            )
        except ValidationError as error:
            raise GatewayError(
                "this URL is of another version of the gateway: ask for a new one", "FORBIDDEN", 403
            ) from error
        if grant.method != method:
            raise GatewayError(
                f"this URL allows {grant.method}, not {shown(method)}: use it as it was given",
                "FORBIDDEN",
                403,
            )
        if grant.expires <= now:
            raise GatewayError(
                f"this URL expired {now - grant.expires:.0f} seconds ago: ask for a new one", "EXPIRED", 403
            )
        return grant

    def _mac(self, version: str, payload: str) -> bytes:
        told = f"fededge grant 1\0{version}\0{payload}".encode()
        return hmac.digest(self._keys[version], told, hashlib.sha256)


def _read(path: Path) -> bytes:
    key = storage.read(str(path), FILE_LIMIT)
    if len(key) < KEY_BYTES:
        raise StorageError(
            f"{path} holds {len(key)} bytes, which is no secret: write at least {KEY_BYTES} random ones"
        )
    return key


def _create(path: Path) -> None:
    """Write a new key to `path`, whole or not at all, unless another process did so meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        storage.sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot make {path}: {error.strerror}. Name a file in a folder that you may write in "
            "FEDEDGE_GATEWAY_KEY_FILE"
        ) from error


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
