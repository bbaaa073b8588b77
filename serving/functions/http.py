"""What the functions share: an HTTP server of the standard library, which starts sooner than any other, and its bounds.

A thread serves a connection, CONNECTIONS at a time: others wait in the socket's queue. WORKING requests are read and
answered at a time, so that memory is bounded. A connection that sends or reads
nothing for STALL_SECONDS ends, and one whose request is not there after RECEIVE_SECONDS.
"""

import argparse
import hmac
import http.server
import json
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fededge.errors import FedEdgeError, RequestError, StorageError, shown

CONNECTIONS = 16
WORKING = 2
STALL_SECONDS = 10.0
RECEIVE_SECONDS = 10.0
FINISH_SECONDS = 30.0
"""After SIGTERM, for requests that are under way."""
LONGEST_TOKEN = 4096
LOOPBACK = ("127.0.0.1", "::1", "localhost")
BLOCK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    body: bytes
    type: str = "application/json"


Route = Callable[[bytes], Answer]
"""A request's body to its answer."""


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A function that serves.

    Args:
        address: host and port.
        routes: by method and path, such as ("GET", "/ready").
        largest: bytes of a body.
        token: that every request but GET has to bring; None: none has to.

    Attributes:
        heard: when the last request ended, on the clock of time.monotonic.
        turns: taken to read a body and answer it.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        routes: Mapping[tuple[str, str], Route],
        largest: int,
        token: str | None,
    ) -> None:
        self.routes, self.largest, self.token = routes, largest, token
        self.heard = time.monotonic()
        self._working = 0
        self._done = threading.Condition()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self.turns = threading.BoundedSemaphore(WORKING)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without a look for this machine's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, once there is a thread for it."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; a mistake of the code is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def begin(self) -> None:
        """A request is under way."""
        with self._done:
            self._working += 1

    def end(self) -> None:
        """A request was answered."""
        with self._done:
            self._working -= 1
            self.heard = time.monotonic()
            self._done.notify_all()

    def idle_for(self) -> float:
        """Seconds without a request."""
        with self._done:
            return 0.0 if self._working else time.monotonic() - self.heard

    def finish(self) -> None:
        """Wait for the requests that are under way."""
        with self._done:
            self._done.wait_for(lambda: not self._working, FINISH_SECONDS)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = STALL_SECONDS
    server: Server

    def do_GET(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self._take()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: whoever starts functions logs requests."""

    def _take(self) -> None:
        self.server.begin()
        try:
            self._send(200, self._answer())
        except RequestError as error:
            self._refuse(error.status, error.reason, error)
        except FedEdgeError as error:
            self._refuse(500, "FAILED", error)
        finally:
            self.server.end()

    def _answer(self) -> Answer:
        path = self.path.partition("?")[0]
        route = self.server.routes.get((self.command, path))
        if route is None:
            self.close_connection = True  # its body is not read
            raise RequestError(f"{self.command} {shown(path)} does nothing here", "NOT_FOUND", 404)
        if self.command == "GET":
            return route(b"")
        with self.server.turns:
            try:
                self._authenticate()
                body = self._body()
            except RequestError:
                self.close_connection = True
                raise
            return route(body)

    def _authenticate(self) -> None:
        token = self.server.token
        given = self.headers.get("Authorization", "")[: LONGEST_TOKEN + 10]
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise RequestError(
                "send the function's token as Authorization: Bearer TOKEN", "UNAUTHORIZED", 401
            )

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or "Transfer-Encoding" in self.headers:
            raise RequestError("the body has no Content-Length: send its size", "LENGTH_REQUIRED", 411)
        size = int(length[:20])
        if size > self.server.largest:
            raise RequestError(
                f"a body of {size:,} bytes, more than {self.server.largest:,}: send less at once",
                "TOO_LARGE",
                413,
            )
        body, until = bytearray(), time.monotonic() + RECEIVE_SECONDS
        while len(body) < size:
            block = self.rfile.read1(min(BLOCK, size - len(body)))
            if not block or time.monotonic() > until:
                raise RequestError(f"the body did not arrive within {RECEIVE_SECONDS:g} s", "INCOMPLETE", 408)
            body += block
        return bytes(body)

    def _refuse(self, status: int, reason: str, error: FedEdgeError) -> None:
        told = {"code": status, "reason": reason, "info": " ".join(str(error).split()), "status": "FAILURE"}
        self._send(status, Answer(json.dumps({"status": told}).encode()))

    def _send(self, status: int, answer: Answer) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What every function is told on its command line."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port; 0: a free one (default: 8080)")
    parser.add_argument("--token-file", type=Path, help="file with the token that requests bring")
    parser.add_argument(
        "--idle-seconds", type=float, default=0.0, help="end after so long without a request; 0: never"
    )


def serve(options: argparse.Namespace, routes: Mapping[tuple[str, str], Route], largest: int) -> None:
    """Serve until SIGTERM or SIGINT, or until nobody has asked for long; prints the URL once it answers.

    Args:
        options: of `arguments`.
        routes: by method and path.
        largest: bytes of a body.

    Raises:
        StorageError: the address or the file of the token cannot be used.
    """
    try:
        token = options.token_file and options.token_file.read_text().strip()
        server = Server((options.host, options.port), routes, largest, cast("str | None", token))
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the function cannot start: {error}. Choose another address or file") from error

    def end(*_: object) -> None:
        threading.Thread(
            target=server.shutdown
        ).start()  # which waits for the loop that this may have interrupted

    def watch() -> None:
        while (left := options.idle_seconds - server.idle_for()) > 0:
            time.sleep(left)
        end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if options.idle_seconds > 0:
        threading.Thread(target=watch, daemon=True).start()
    host = f"[{server.server_name}]" if ":" in server.server_name else server.server_name
    print(json.dumps({"url": f"http://{host}:{server.server_port}"}), flush=True)
    with server:
        server.serve_forever(poll_interval=0.05)
        server.finish()


def main(program: Callable[[], None]) -> int:
    """Run `program`; the exit status."""
    try:
        program()
    except FedEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
