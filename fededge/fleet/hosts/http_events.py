"""HTTP requests as events of an API Gateway HTTP API (payload format 2.0), answered by an ASGI application."""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Scope

from fededge.errors import GatewayError, shown


def is_request(event: Mapping[str, Any]) -> bool:
    """Whether an event is an HTTP request."""
    return "http" in (event.get("requestContext") or {})


async def answer(app: ASGIApp, event: Mapping[str, Any]) -> dict[str, Any]:
    """What `app` answers to the request of an event, as API Gateway takes it.

    Raises:
        GatewayError: the event is not as the format has it.
    """
    scope, body = _request(event)
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    begin = next(each for each in sent if each["type"] == "http.response.start")
    content = b"".join(each.get("body", b"") for each in sent if each["type"] == "http.response.body")
    return {
        "statusCode": begin["status"],
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in begin["headers"]},
        "body": base64.b64encode(content).decode(),
        "isBase64Encoded": True,
    }


def _request(event: Mapping[str, Any]) -> tuple[Scope, bytes]:
    """Its ASGI scope and body."""
    try:
        context, http = event["requestContext"], event["requestContext"]["http"]
        said = event.get("body") or ""
        body = base64.b64decode(said) if event.get("isBase64Encoded") else said.encode()
        headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
        path = str(event["rawPath"])
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": str(http["method"]),
            "scheme": "https",
            "path": path,
            "raw_path": quote(path).encode(),
            "root_path": "",
            "query_string": str(event.get("rawQueryString") or "").encode("latin-1"),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            "client": (str(http["sourceIp"]), 0),
            "server": (str(context.get("domainName") or "localhost"), 443),
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise GatewayError(f"no HTTP request of an API Gateway HTTP API: {shown(repr(error))}") from error
    return scope, body
