"""Bodies of the HTTP API: JSON, bounded in size, time and depth, and what they are to say."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from fededge.documents.base import first_mistake
from fededge.errors import GatewayError, shown

Model = TypeVar("Model", bound=BaseModel)


JSON = ("application/json",)


async def read(request: Request, most: int, seconds: float, kinds: Sequence[str] = JSON) -> bytes:
    """The body of `request`.

    Args:
        request: whose body was not read yet.
        most: bytes.
        seconds: for all of it to arrive.
        kinds: media types that are taken, the usual one first.

    Raises:
        GatewayError: it is compressed or of another type (415), larger than `most` (413), late (408), or cut off.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise GatewayError(
            f"a body of encoding {shown(encoding)}: send it uncompressed", "UNSUPPORTED_MEDIA_TYPE", 415
        )
    kind = request.headers.get("content-type", kinds[0]).partition(";")[0].strip().lower()
    if kind not in kinds:
        raise GatewayError(
            f"a body of type {shown(kind)}: send {' or '.join(kinds)}", "UNSUPPORTED_MEDIA_TYPE", 415
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(int(announced), most)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for block in request.stream():
                body += block
                if len(body) > most:
                    raise _too_large(len(body), most)
    except TimeoutError as error:
        raise GatewayError(
            f"the body did not arrive within {seconds:g} seconds: send it faster", "TIMEOUT", 408
        ) from error
    except ClientDisconnect as error:
        raise GatewayError("the body was cut off: send it again", "CUT_OFF", 400) from error
    return bytes(body)


def parsed(model: type[Model], body: bytes) -> Model:
    """What `body` says.

    pydantic's parser takes no more than 200 levels, and reads fields that nobody knows without building them.

    Raises:
        GatewayError: it is not JSON, or not what `model` describes.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _malformed("body", error) from error


def from_text(model: type[Model], what: str, values: dict[str, Any]) -> Model:
    """What texts of a URL say, `what` being its query or path; "5" is a number where one is asked for.

    Raises:
        GatewayError: they are not what `model` describes.
    """
    try:
        return model.model_validate_strings(values)
    except ValidationError as error:
        raise _malformed(what, error) from error


def _malformed(what: str, error: ValidationError) -> GatewayError:
    return GatewayError(f"the {what} is wrong: {first_mistake(error)}", "MALFORMED", 400)


def _too_large(size: int, most: int) -> GatewayError:
    return GatewayError(
        f"a body of {size:,} bytes, where {most:,} are the most: send less at once", "TOO_LARGE", 413
    )
