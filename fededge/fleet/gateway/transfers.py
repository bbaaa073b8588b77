"""Objects over HTTP: fetched by ranges, sent in pieces. The URL is the only credential; see grants.

A sender that was cut off asks with HEAD how much is there (`Upload-Offset`), and goes on with PUT and Content-Range
(RFC 9110, section 14.4).
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fededge.errors import FedEdgeError, GatewayError, shown
from fededge.fleet.functions import aggregation, blobs
from fededge.fleet.functions.work import assignment_id
from fededge.fleet.gateway import problems
from fededge.fleet.gateway.grants import Grant, Method
from fededge.fleet.gateway.keeping import kept
from fededge.fleet.gateway.limits import address_of
from fededge.fleet.gateway.objects import Files
from fededge.fleet.gateway.service import Service, now
from fededge.fleet.gateway.uploads import Upload, settle
from fededge.fleet.registry.database import Registry
from fededge.protocol import Accepted, UploadRequest, digests

PIECE = 1 << 19
"""Bytes that are gathered before they are written."""
SMALL, RECENT = 1 << 21, 8
"""Most bytes of an object that is read at once, and how many of these are kept: the clients of a round fetch the same."""
BYTES = "application/octet-stream"
RANGE = re.compile(r"bytes (\d{1,13})-(\d{1,13})/(\d{1,13})")


Handler = Callable[[Service, Files, Request, Grant], Awaitable[ASGIApp]]


class Large(FileResponse):
    """A file as the answer, in larger pieces."""

    chunk_size = 1 << 18
    max_ranges = 1


class Counted:
    """An answer whose bytes are counted for the round that they belong to.

    Args:
        answer: that is given.
        service, grant: by which.
    """

    def __init__(self, answer: ASGIApp, service: Service, grant: Grant) -> None:
        self._answer = answer
        self._service = service
        self._grant = grant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        sent = 0

        async def counted(message: Message) -> None:
            nonlocal sent
            await send(message)
            sent += len(message.get("body", b""))

        try:
            await self._answer(scope, receive, counted)
        finally:
            self._service.metrics.bytes.labels("down").inc(sent)
            await _moved(self._service, self._grant, down=sent)


async def fetch(service: Service, request: Request) -> ASGIApp:
    """Answer GET or HEAD of an object."""
    return await _answered(service, request, "GET", _send)


async def look(service: Service, request: Request) -> ASGIApp:
    """Answer HEAD of an upload: how much of it is there."""
    return await _answered(service, request, "PUT", _tell)


async def receive(service: Service, request: Request) -> ASGIApp:
    """Answer PUT of an upload, or of a piece of it."""
    return await _answered(service, request, "PUT", _receive)


async def _answered(service: Service, request: Request, method: Method, handler: Handler) -> ASGIApp:
    """What `handler` answers, where the request's URL allows `method`."""
    if wait := service.requests.take(address_of(request.scope["client"]), time.monotonic()):
        return problems.busy(service, "TOO_FREQUENT", "send fewer requests", 429, wait)
    try:
        grant = service.keys.opened(request.path_params["grant"], method, now())
        if not isinstance(service.objects, Files):
            raise GatewayError("objects are not kept here: use the store's URLs", "NO_BLOB", 404)
        if not grant.digest:
            grant = await _narrowed(service, grant, request.headers)
        return await handler(service, service.objects, request, grant)
    except FedEdgeError as error:
        return problems.refused(service, error)


async def _narrowed(service: Service, grant: Grant, headers: Mapping[str, str]) -> Grant:
    """`grant` of a client's update for the one whose digest a request tells, where it is waited for.

    Raises:
        GatewayError: the request tells none, or nobody waits for it.
    """
    digest = digests.from_header(headers.get(digests.HEADER, ""))
    if digest is None:
        raise GatewayError(
            "this URL takes an update with its digest: send Repr-Digest: sha-256=:BASE64:", "MALFORMED", 400
        )
    assert grant.owner is not None
    assert grant.round is not None
    assignment = assignment_id(grant.tenant, grant.round, grant.owner)
    asked = UploadRequest(assignment=assignment, digest=digest, bytes=grant.bytes)
    await service.database.look(aggregation.expected, grant.tenant, grant.owner, asked, now())
    await service.database.look(blobs.allowed, grant.tenant, grant.bytes)
    return replace(grant, digest=digest)


async def _send(service: Service, files: Files, request: Request, grant: Grant) -> ASGIApp:
    path = files.path(grant.tenant, grant.digest, grant.owner)
    part = request.method == "HEAD" or "range" in request.headers
    read = _content if grant.owner is None else Path.read_bytes  # an update is fetched once

    def opened() -> tuple[os.stat_result, bytes | None]:
        found = path.stat()
        return found, read(path) if found.st_size <= SMALL and not part else None

    try:
        found, content = await asyncio.get_running_loop().run_in_executor(service.files, opened)
    except OSError as error:
        raise GatewayError(f"{grant.digest} is not here any more: ask again", "NO_BLOB", 404) from error
    headers = {"etag": f'"{grant.digest}"', "cache-control": "private, immutable"}
    answer: ASGIApp
    if content is None:
        answer = Large(path, headers=headers, media_type=BYTES, stat_result=found)
    else:
        answer = Response(content, headers={**headers, "accept-ranges": "bytes"}, media_type=BYTES)
    return Counted(answer, service, grant)


@lru_cache(maxsize=RECENT)
def _content(path: Path) -> bytes:
    """The bytes of an object, which never change."""
    return path.read_bytes()


async def _tell(service: Service, files: Files, request: Request, grant: Grant) -> Response:
    offset = await asyncio.get_running_loop().run_in_executor(service.files, _offset, files, grant)
    return Response(headers={"upload-offset": str(offset), "cache-control": "no-store"})


async def _receive(service: Service, files: Files, request: Request, grant: Grant) -> Response:
    piece = _piece(request, grant)
    loop = asyncio.get_running_loop()
    upload = await loop.run_in_executor(service.files, _begun, files, grant, piece.start)
    if upload is None:
        await _noted(service, grant, loop.run_in_executor(service.files, settle, files, grant), 0)
        return _there()
    taken = False
    try:
        taken = await _take(service, request, upload, piece)
        if taken:
            settled = loop.run_in_executor(service.files, upload.settle)
            await _noted(service, grant, settled, upload.size - piece.start)
    finally:
        upload.close()
        sent = upload.size - piece.start
        service.metrics.bytes.labels("up").inc(sent)
        if not taken:  # what came before it was cut off came, too
            await _moved(service, grant, up=sent)
    return _there() if taken else Response(status_code=202, headers={"upload-offset": str(upload.size)})


def _there() -> Response:
    return Response(Accepted().model_dump_json(), 201, media_type="application/json")


async def _noted(service: Service, grant: Grant, settled: asyncio.Future[None], sent: int) -> None:
    """Return once an object that came whole is `settled` in its place, and the registry knows of it and of the bytes."""
    async with kept(service, grant.tenant, grant.digest, grant.owner):
        try:
            await service.database.together(_kept, grant, sent, now())
        finally:
            await asyncio.wait([settled])
        settled.result()


def _begun(files: Files, grant: Grant, offset: int) -> Upload | None:
    """The upload, None where the object is whole already."""
    whole = files.size(grant.tenant, grant.digest, grant.owner) is not None
    return None if whole else Upload(files, grant, offset)


async def _take(service: Service, request: Request, upload: Upload, piece: range) -> bool:
    """Write what a request brings, the bytes of `piece`; whether all of the object came then.

    Raises:
        GatewayError: it brings more, stops in the middle, or something else than was announced.
    """
    loop = asyncio.get_running_loop()
    blocks: list[bytes] = []
    held, left = 0, len(piece)
    try:
        async for block in _blocks(request, service.settings.stall_seconds):
            left -= len(block)
            if left < 0:
                raise GatewayError(
                    f"more than the {len(piece):,} bytes that were announced", "TOO_LARGE", 413
                )
            blocks.append(block)
            held += len(block)
            if held >= PIECE and left:
                await loop.run_in_executor(service.files, upload.write, blocks)
                blocks, held = [], 0
        return await loop.run_in_executor(service.files, upload.finish, blocks)
    except (TimeoutError, ClientDisconnect) as error:
        await loop.run_in_executor(service.files, upload.write, blocks)
        raise GatewayError(
            f"cut off after {len(piece) - left:,} of {len(piece):,} bytes: go on from there",
            "CUT_OFF",
            408,
        ) from error


async def _blocks(request: Request, seconds: float) -> AsyncIterator[bytes]:
    """What arrives; TimeoutError where that is nothing for so many seconds."""
    stream = request.stream()
    while True:
        async with asyncio.timeout(seconds):
            block = await anext(stream, None)
        if block is None:
            return
        yield block


def _kept(registry: Registry, grant: Grant, sent: int, at: float) -> None:
    """Note that an object is here, and how many bytes came."""
    blobs.stored(registry, grant.tenant, grant.digest, grant.bytes, at, grant.owner)
    if grant.round is not None and sent:
        aggregation.moved(registry, grant.tenant, grant.round, up=sent)


async def _moved(service: Service, grant: Grant, up: int = 0, down: int = 0) -> None:
    """Count bytes that passed here for the round that they belong to."""
    if grant.round is not None and up + down:
        await service.database.together(aggregation.moved, grant.tenant, grant.round, up, down)


def _piece(request: Request, grant: Grant) -> range:
    """Which bytes of the object a PUT brings.

    Raises:
        GatewayError: it says nothing that can be carried out.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise GatewayError("send the bytes themselves, uncompressed", "UNSUPPORTED_MEDIA_TYPE", 415)
    start, end = 0, grant.bytes
    if (told := request.headers.get("content-range")) is not None:
        match = RANGE.fullmatch(told)
        if match is None:
            raise GatewayError(
                f"Content-Range {shown(told)} cannot be read: write bytes FIRST-LAST/ALL", "MALFORMED", 400
            )
        start, end, whole = int(match[1]), int(match[2]) + 1, int(match[3])
        if not start < end <= whole or whole != grant.bytes:
            raise GatewayError(
                f"Content-Range {shown(told)} does not fit an object of {grant.bytes:,} bytes", "RANGE", 416
            )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > end - start:
        raise GatewayError(
            f"a body of {int(length):,} bytes, where {end - start:,} were announced: send these",
            "TOO_LARGE",
            413,
        )
    return range(start, end)


def _offset(files: Files, grant: Grant) -> int:
    size = files.size(grant.tenant, grant.digest, grant.owner)
    return files.offset(grant) if size is None else size
