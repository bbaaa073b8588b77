"""The handler of an AWS Lambda function behind an API Gateway WebSocket API and an HTTP API.

| called by | event | does |
|---|---|---|
| API Gateway | route $connect | notes the connection, and has itself called with its challenge |
| itself, later | {"challenge": CONNECTION} | says the challenge, which it cannot while the connection is being made |
| API Gateway | route $default | a message of the client |
| API Gateway | route $disconnect | forgets the connection |
| API Gateway | a request of the HTTP API | answers it as a gateway does |
| EventBridge | {"dispatch": SECONDS} | what a gateway does by itself, for so long |

A process keeps nothing that another would miss. Clients are told things through the API's @connections.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from starlette.datastructures import Headers

from fededge import settings
from fededge.errors import GatewayError, shown
from fededge.fleet.gateway import app, observing
from fededge.fleet.gateway.observing import log
from fededge.fleet.gateway.service import Service
from fededge.fleet.gateway.settings import GatewaySettings
from fededge.fleet.hosts import http_events
from fededge.fleet.hosts.websockets import Conversations
from fededge.protocol import SUBPROTOCOL

LEASE_SECONDS = 180.0
"""Longer than from one scheduled call to the next."""
POLL_SECONDS = 1.0
WAIT_SECONDS = 25.0
"""Of a request for reports: an HTTP API gives up after 30."""
LATER_SECONDS = 5.0
"""For which a challenge waits for its connection to be made."""
NETWORK = Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 4, "mode": "standard"})


class ApiGateway:
    """The connections of a WebSocket API.

    Args:
        endpoint: URL of its stage, https://ID.execute-api.REGION.amazonaws.com/STAGE.
    """

    def __init__(self, endpoint: str) -> None:
        self._client = boto3.client("apigatewaymanagementapi", endpoint_url=endpoint, config=NETWORK)

    def post(self, connection: str, text: str) -> bool:
        """See Platform."""
        return self._reached(self._client.post_to_connection, ConnectionId=connection, Data=text.encode())

    def close(self, connection: str) -> None:
        """See Platform."""
        self._reached(self._client.delete_connection, ConnectionId=connection)

    def _reached(self, call: Callable[..., object], **arguments: object) -> bool:
        """Call the API; False where the connection is gone."""
        try:
            call(**arguments)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.GONE:
                return False
            raise _failure(error) from error
        except BotoCoreError as error:
            raise _failure(error) from error
        return True


class Host:
    """What a process of the function holds.

    Args:
        endpoint: URL of the WebSocket API's stage.

    Raises:
        FedEdgeError: its registry or store cannot be opened.
    """

    def __init__(self, endpoint: str) -> None:
        self._loop = asyncio.new_event_loop()
        name = hashlib.sha256(endpoint.encode()).hexdigest()[:12]
        chosen = GatewaySettings(
            id=f"lambda-{name}",
            database=_database(),
            lease_seconds=LEASE_SECONDS,
            poll_seconds=POLL_SECONDS,
            database_threads=2,
            wait_seconds=WAIT_SECONDS,
        )
        self._service = Service(chosen, settings.gateway_url() or endpoint)
        self._platform = ApiGateway(endpoint)
        self._conversations = Conversations(self._service, self._platform)
        self._app = app.application(self._service, app.api(self._service))
        self._lambda = boto3.client("lambda", config=NETWORK)

    def take(self, event: Mapping[str, Any], function: str) -> dict[str, Any]:
        """What an event is answered with; `function`: name of this one.

        Raises:
            GatewayError: it is none of the above.
        """
        if http_events.is_request(event):
            return self._loop.run_until_complete(http_events.answer(self._app, event))
        if "challenge" in event:
            return self._done(self._challenge(str(event["challenge"])))
        if "dispatch" in event:
            return self._done(self._conversations.dispatch(float(event["dispatch"])))
        context = event.get("requestContext") or {}
        route, connection = context.get("routeKey"), str(context.get("connectionId"))
        if route == "$connect":
            return self._connect(connection, event, function)
        if route == "$default":
            text = None if event.get("isBase64Encoded") else str(event.get("body") or "")
            return self._done(self._conversations.said(connection, text))
        if route == "$disconnect":
            return self._done(self._conversations.closed(connection))
        raise GatewayError(
            f"no event of a WebSocket or HTTP API: {shown(json.dumps(event, default=str), 200)}"
        )

    def _connect(self, connection: str, event: Mapping[str, Any], function: str) -> dict[str, Any]:
        headers = Headers({str(k): str(v) for k, v in (event.get("headers") or {}).items()})
        origin = headers.get("origin")
        if origin is not None and origin.rstrip("/") != self._service.url:
            return {"statusCode": 403}
        offered = [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")]
        if SUBPROTOCOL not in offered:
            return {"statusCode": 400}
        self._loop.run_until_complete(self._conversations.opened(connection))
        try:
            payload = json.dumps({"challenge": connection}).encode()
            self._lambda.invoke(FunctionName=function, InvocationType="Event", Payload=payload)
        except (BotoCoreError, ClientError) as error:
            raise _failure(error) from error
        return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": SUBPROTOCOL}}

    async def _challenge(self, connection: str) -> None:
        """Say the challenge, once the connection is made."""
        until = time.monotonic() + LATER_SECONDS
        while not await self._conversations.challenge(connection) and time.monotonic() < until:
            await asyncio.sleep(0.05)

    def _done(self, work: Any) -> dict[str, Any]:
        self._loop.run_until_complete(work)
        return {"statusCode": 200}


_host: Host | None = None


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answer an event; the process's first one opens what it needs.

    Raises:
        FedEdgeError: it could not be carried out: Lambda or API Gateway calls again, or closes the connection.
    """
    global _host
    if _host is None:
        observing.configure_log("INFO")
        endpoint = settings.lambda_endpoint()
        _host = Host(endpoint)
        log.info("ready", endpoint=endpoint)
    return _host.take(event, context.function_name)


def _database() -> str:
    """URL of the registry: of the settings, or in AWS Secrets Manager."""
    secret = settings.lambda_secret()
    if secret is None:
        return settings.fleet_database()
    try:
        found = boto3.client("secretsmanager", config=NETWORK).get_secret_value(SecretId=secret)
    except (BotoCoreError, ClientError) as error:
        raise _failure(error) from error
    return str(found["SecretString"])


def _failure(error: Exception) -> GatewayError:
    return GatewayError(f"AWS refuses or does not answer: {shown(' '.join(str(error).split()), 300)}")
