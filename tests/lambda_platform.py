"""AWS Lambda and API Gateway on this machine, as far as a function behind a WebSocket and an HTTP API sees them.

The Runtime API, which real awslambdaric processes poll; asynchronous invocations; @connections; and a WebSocket server
that turns what clients do into events. Any number of processes serve one function.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from fededge.host.layout import ROOT

RUNTIME = "/2018-06-01/runtime/invocation"
NAME = "fededge"
GONE = {"x-amzn-ErrorType": "GoneException"}
SECONDS = 60.0


class FunctionFailed(Exception):
    """The function raised."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process of the function that was killed breaks its connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Platform:
    """See above.

    Attributes:
        url: where clients connect to, as to a gateway.
        api_url: of the HTTP API.
        connections: that are open, and those whose end the function was not told yet.
    """

    def __init__(self) -> None:
        self.connections: dict[str, ServerConnection] = {}
        self._calls: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: dict[str, Future[Any]] = {}
        self._ending = threading.Event()
        platform = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # head and body go together

            def do_GET(self) -> None:
                platform._next(self)

            def do_POST(self) -> None:
                platform._post(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def do_DELETE(self) -> None:
                platform._delete(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Requests(Handler):
            pass

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
            setattr(Requests, f"do_{method}", lambda request: platform._request(request))

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._requests = _Server(("127.0.0.1", 0), Requests)
        self.api_url = f"http://127.0.0.1:{self._requests.server_port}"
        self.address = f"127.0.0.1:{self._http.server_port}"
        self._sockets = serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol(NAME)],
            process_request=self._connect,
            compression=None,
            ping_interval=None,
        )
        self.url = f"http://127.0.0.1:{self._sockets.socket.getsockname()[1]}"
        self.threads = [
            threading.Thread(target=server.serve_forever, daemon=True)
            for server in (self._http, self._requests, self._sockets)
        ]
        for thread in self.threads:
            thread.start()

    def invoke(self, event: dict[str, Any]) -> Any:
        """What the function answers to an event."""
        return self._begin(event).result(SECONDS)

    def environment(self, home: Path, gateway: str) -> dict[str, str]:
        """Variables of the function's processes."""
        return {
            "AWS_LAMBDA_RUNTIME_API": self.address,
            "AWS_LAMBDA_FUNCTION_NAME": NAME,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_ENDPOINT_URL_LAMBDA": f"http://{self.address}",
            "AWS_ACCESS_KEY_ID": "id-of-a-test",
            "AWS_SECRET_ACCESS_KEY": "word-of-a-test",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "FEDEDGE_LAMBDA_ENDPOINT": f"http://{self.address}/prod",
            "FEDEDGE_GATEWAY_URL": gateway,
            "FEDEDGE_FLEET_DATABASE": f"sqlite:///{home}/registry.db",
            "FEDEDGE_STORAGE": f"file://{home}/storage",
            "FEDEDGE_HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }

    def close(self) -> None:
        self._ending.set()
        for answer in list(self._answers.values()):
            answer.cancel()
        self._sockets.shutdown()
        for server in (self._http, self._requests):
            server.shutdown()
            server.server_close()

    def _begin(self, event: dict[str, Any]) -> Future[Any]:
        id, answer = str(uuid.uuid4()), Future[Any]()
        self._answers[id] = answer
        self._calls.put((id, json.dumps(event).encode()))
        return answer

    def _next(self, request: BaseHTTPRequestHandler) -> None:
        while not self._ending.is_set():
            try:
                id, event = self._calls.get(timeout=0.2)
            except queue.Empty:
                continue
            headers = {
                "Lambda-Runtime-Aws-Request-Id": id,
                "Lambda-Runtime-Deadline-Ms": "99999999999999",
                "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:eu-west-1:1:function:{NAME}",
                "Content-Type": "application/json",
            }
            _answer(request, 200, event, headers)
            return
        request.close_connection = True

    def _post(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = request.path.strip("/").split("/")
        if request.path.startswith(RUNTIME):
            answer = self._answers.pop(parts[3])
            if parts[4] == "response":
                answer.set_result(json.loads(body))
            else:
                answer.set_exception(FunctionFailed(body.decode()))
            _answer(request, 202, b'{"status": "OK"}')
        elif parts[1:2] == ["functions"]:
            self._begin(json.loads(body))
            _answer(request, 202)
        elif (socket := self.connections.get(parts[-1])) is not None:
            try:
                socket.send(body.decode())
                _answer(request, 200)
            except ConnectionClosed:
                _answer(request, 410, headers=GONE)
        else:
            _answer(request, 410, headers=GONE)

    def _delete(self, request: BaseHTTPRequestHandler) -> None:
        socket = self.connections.get(request.path.rsplit("/", 1)[-1])
        if socket is not None:
            socket.close()
        _answer(request, *((410, b"", GONE) if socket is None else (204,)))

    def _request(self, request: BaseHTTPRequestHandler) -> None:
        """A request of the HTTP API, as an event of payload format 2.0."""
        path, _, query = request.path.partition("?")
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        http = {"method": request.command, "path": path, "sourceIp": request.client_address[0]}
        event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": unquote(path),
            "rawQueryString": query,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "requestContext": {
                "http": http,
                "domainName": "api.test",
                "routeKey": "$default",
                "stage": "$default",
            },
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }
        try:
            answer = self.invoke(event)
        except (FunctionFailed, CancelledError):
            _answer(request, 500)
            return
        headers = {name: value for name, value in answer["headers"].items() if name != "content-length"}
        content = base64.b64decode(answer["body"])
        _answer(request, answer["statusCode"], content, headers)

    def _connect(self, socket: ServerConnection, request: Request) -> Response | None:
        context = {"routeKey": "$connect", "connectionId": str(socket.id)}
        answer = self.invoke({"requestContext": context, "headers": dict(request.headers.raw_items())})
        status = answer.get("statusCode")
        return None if status == 200 else socket.respond(status, "")

    def _serve(self, socket: ServerConnection) -> None:
        id = str(socket.id)
        self.connections[id] = socket
        try:
            for message in socket:
                text = isinstance(message, str)
                body = message if isinstance(message, str) else ""
                context = {"routeKey": "$default", "connectionId": id}
                self.invoke({"requestContext": context, "body": body, "isBase64Encoded": not text})
        except (ConnectionClosed, FunctionFailed, CancelledError):
            pass
        finally:
            self.invoke({"requestContext": {"routeKey": "$disconnect", "connectionId": id}})
            del self.connections[id]


def _answer(
    request: BaseHTTPRequestHandler, status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> None:
    request.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def deployed(home: Path, gateway: str, processes: int = 2, schedule: bool = True) -> Iterator[Platform]:
    """The function, deployed: its registry and store in `home`, its objects and HTTP at the gateway's URL.

    Args:
        home: folder.
        gateway: URL.
        processes: of awslambdaric.
        schedule: whether it is called by the clock, again and again.
    """
    platform = Platform()
    command = [sys.executable, "-m", "awslambdaric", "fededge.fleet.hosts.aws_lambda.handler"]
    environment = os.environ | platform.environment(home, gateway)
    ending = threading.Event()

    def by_the_clock() -> None:
        while not ending.wait(0.05):
            platform.invoke({"dispatch": 0})

    with ExitStack() as stack:
        stack.callback(platform.close)
        for _ in range(processes):
            process = stack.enter_context(
                subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.DEVNULL)
            )
            stack.callback(process.kill)
        clock = threading.Thread(target=by_the_clock)
        if schedule:
            clock.start()
        yield platform
        ending.set()
        if schedule:
            clock.join()


def waiting(is_so: Callable[[], object]) -> None:
    """Wait until something is so; the test's own time limit ends that."""
    while not is_so():
        threading.Event().wait(0.02)
