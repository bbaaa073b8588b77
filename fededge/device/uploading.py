"""Updates that a client hands in: PUT to the place that the gateway named, from where it says that it has them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from fededge import storage
from fededge.device.fetching import check, unreachable
from fededge.device.journal import Journal
from fededge.errors import StorageError
from fededge.protocol import UploadPlace, digests


async def upload(
    http: httpx.AsyncClient,
    url: str,
    file: Path,
    digest: str,
    place: UploadPlace,
    journal: Journal,
    round: str,
) -> None:
    """Put `file` to `url`, all of it or from `place.offset` on; what is sent is written into the journal first.

    Where it is cut off, ask the gateway for the place again: its offset says how much arrived.

    Args:
        http: follows no redirects.
        url: of `place`, checked (Address.object).
        file: the update.
        digest: of it.
        place: where the gateway wants it.
        journal: of what leaves.
        round: that it belongs to.

    Raises:
        GatewayError: the server cannot be reached, or does not take it.
        StorageError: the file cannot be read, or the journal not be written.
    """
    try:
        size = file.stat().st_size
        start = place.offset if place.resumable and place.offset < size else 0
        headers = {"Content-Length": str(size - start), digests.HEADER: digests.to_header(digest)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        journal.note("update", digest, size - start, round=round, offset=start)
        async with http.stream("PUT", url, headers=headers, content=_blocks(file, start)) as answer:
            check(answer, "PUT", (200, 201, 204))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(error) from error
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror}. Check the disk") from error


async def _blocks(file: Path, start: int) -> AsyncIterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(storage.CHUNK):
            yield block
