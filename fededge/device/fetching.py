"""Files that a client fetches: of a known size and digest, resumed where they were cut off, there whole or not at all.

A file is fetched into `<name>.part` beside its place. What a server sends is never believed: no redirect is followed, no
encoding undone, no byte more is taken than was announced, and the file gets to its place once its digest is proven. It is
not synced to disk: a file that is there already, perhaps since before a power failure, is proven again.
"""

import asyncio
import hashlib
import os
from pathlib import Path

import httpx

from fededge import storage
from fededge.errors import GatewayError, IntegrityError, StorageError, shown
from fededge.protocol import Object

EXPIRED = {401, 403, 404, 410}
"""What servers say of an address that is good no longer."""


async def fetch(http: httpx.AsyncClient, url: str, wanted: Object, target: Path) -> None:
    """Fetch `wanted` from `url` into the file `target`, unless it is there.

    Args:
        http: follows no redirects.
        url: checked (Address.object).
        wanted: size and digest.
        target: in a folder that exists.

    Raises:
        GatewayError: the server cannot be reached, or does not give it; calling again goes on with what came.
        IntegrityError: what came is something else; nothing of it is kept.
        StorageError: it cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        if target.exists():
            if await asyncio.to_thread(storage.digest_path, target) == wanted.digest:
                return
            target.unlink()
        have = part.stat().st_size if part.exists() else 0
        if have > wanted.bytes:
            part.unlink()
            have = 0
        found = await _received(http, url, wanted, part, have)
        if found == wanted.digest:
            os.replace(part, target)
            return
        part.unlink()
        if not have:
            raise IntegrityError(
                f"what was fetched has digest {found} where {wanted.digest} was promised: refused"
            )
        await fetch(http, url, wanted, target)  # what was there before was damaged, and is gone
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}. Free space") from error


async def _received(http: httpx.AsyncClient, url: str, wanted: Object, part: Path, have: int) -> str:
    """The digest of what is in `part`, `have` bytes and those that the server has after them."""
    if have == wanted.bytes and part.exists():
        return await asyncio.to_thread(storage.digest_path, part)
    hasher = await asyncio.to_thread(_hashed, part) if have else hashlib.sha256()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        async with http.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 416 or (answer.status_code == 206 and not _goes_on(answer, have)):
                part.unlink(missing_ok=True)
                raise GatewayError(
                    "what was fetched does not fit what is there: it is fetched anew", "RANGE", 0
                )
            check(answer, "GET", (200, 206))
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise GatewayError(
                    "the server sends another encoding than was asked for", "ENCODING", answer.status_code
                )
            goes_on = answer.status_code == 206
            if not goes_on:
                have, hasher = 0, hashlib.sha256()
            with part.open("ab" if goes_on else "wb") as file:
                async for block in answer.aiter_raw():
                    have += len(block)
                    if have > wanted.bytes:
                        part.unlink()
                        raise IntegrityError(
                            f"the server sends more than the {wanted.bytes:,} bytes of {wanted.digest}: refused"
                        )
                    file.write(block)
                    hasher.update(block)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(error) from error
    if have < wanted.bytes:
        raise GatewayError(f"the server ended after {have:,} of {wanted.bytes:,} bytes")
    return f"sha256:{hasher.hexdigest()}"


def _hashed(file: Path) -> "hashlib._Hash":
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")


def _goes_on(answer: httpx.Response, have: int) -> bool:
    return have > 0 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def check(answer: httpx.Response, method: str, good: tuple[int, ...]) -> None:
    """Raise GatewayError unless a server's answer has a status that is `good`."""
    status = answer.status_code
    if status in good:
        return
    if answer.is_redirect:
        place = shown(answer.headers.get("Location", ""), 200)
        raise GatewayError(f"the server sends on to {place}: redirects are not followed", "REDIRECT", status)
    reason = "EXPIRED" if status in EXPIRED else "REFUSED"
    raise GatewayError(f"the server answers {method} with status {status}", reason, status)


def unreachable(error: Exception) -> GatewayError:
    """What a failed connection is called here."""
    return GatewayError(f"the server cannot be reached: {shown(str(error) or type(error).__name__, 200)}")
