"""CloudEvents 1.0 over HTTP (CloudEvents, HTTP Protocol Binding 1.0.2, section 3): events read, and answers written.

In binary mode the attributes are headers and the body is the data; in structured mode the body is a JSON object of both.
An answer comes in the mode of its question.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cloudevents.core.bindings import http
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from fededge.errors import GatewayError, shown
from fededge.fleet.gateway import bodies

STRUCTURED = JSONFormat.CONTENT_TYPE
LONGEST = 1024
"""Most bytes of an attribute."""
_FORMAT = JSONFormat()


@dataclass(frozen=True)
class Event:
    """An event, and how it came.

    Attributes:
        id, source, type, subject: its attributes.
        data: JSON; empty for none.
        structured: whether it came in structured mode.
    """

    id: str
    source: str
    type: str
    subject: str | None
    data: bytes
    structured: bool


async def read(request: Request, most: int, seconds: float) -> Event:
    """The event that `request` brings.

    Args:
        request: whose body was not read yet.
        most: bytes of the body; `seconds`: for all of it to arrive.

    Raises:
        GatewayError: it is no event of version 1.0 in JSON, too large or too late.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    structured = kind == STRUCTURED
    body = await bodies.read(request, most, seconds, (*bodies.JSON, STRUCTURED))
    try:
        if structured:
            message = http.HTTPMessage({}, body)
            event = http.from_structured(message, _FORMAT, _event)
            data = _bytes(event.get_data())
        else:
            message = http.HTTPMessage(dict(request.headers), b"")
            event = http.from_binary(message, _FORMAT, _event)
            data = body
        named = [event.get_id(), event.get_source(), event.get_type(), event.get_subject() or ""]
        longest = max(len(each.encode()) for each in named)
        # The SDK looks at a structured event's JSON as it comes, whose values may be of any type.
    except (
        BaseCloudEventException,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise _malformed(str(error) or type(error).__name__) from error
    if longest > LONGEST:
        raise _malformed(f"an attribute is longer than {LONGEST} bytes")
    return Event(event.get_id(), event.get_source(), event.get_type(), event.get_subject(), data, structured)


def answer(event: Event, source: str, content: BaseModel, status: int = 200) -> Response:
    """The answer to `event`: an event of the same subject, whose id follows from the question's.

    Args:
        event: the question.
        source: who answers.
        content: what is said.
        status: of HTTP.
    """
    asked = f"{event.source}\0{event.id}".encode()
    attributes: dict[str, Any] = {
        "id": hashlib.sha256(asked).hexdigest()[:32],
        "source": source,
        "type": f"{event.type}.answer",
        "datacontenttype": bodies.JSON[0],
    }
    if event.subject is not None:
        attributes["subject"] = event.subject
    text = content.model_dump_json(exclude_none=True).encode()
    if event.structured:
        message = http.to_structured(CloudEvent(attributes, json.loads(text)), _FORMAT)
        return Response(message.body, status, media_type=STRUCTURED)
    message = http.to_binary(CloudEvent(attributes, text), _FORMAT)
    return Response(message.body, status, headers=message.headers)


def _bytes(data: dict[str, Any] | str | bytes | None) -> bytes:
    """The data of a structured event, as JSON: as bytes it came in base64."""
    if data is None:
        return b""
    return data if isinstance(data, bytes) else json.dumps(data).encode()


def _event(attributes: dict[str, Any], data: Any) -> CloudEvent:
    """An event with an id of its own, where the SDK would make one up."""
    if "id" not in attributes:
        raise ValueError("it has no id")
    return CloudEvent(attributes, data)


def _malformed(why: str) -> GatewayError:
    return GatewayError(
        f"no CloudEvent of version 1.0 in JSON: {shown(' '.join(why.split()), 200)}", "MALFORMED", 400
    )
