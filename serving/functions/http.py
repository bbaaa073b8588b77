"""What the functions share: an HTTP server of the standard library, which starts sooner than any other, and its bounds.

It serves HTTP/1.1, a thread for each connection, no more than CONNECTIONS at a time: others wait in the socket's queue. A
connection that sends or reads nothing for STALL_SECONDS ends.
"""

import argparse
import hmac
import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fededge.errors import FedEdgeError, RequestError, SiteError, shown

CONNECTIONS = 16
STALL_SECONDS = 10.0
LONGEST_TOKEN = 4096
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    body: bytes
    type: str = "application/json"


Route = Callable[[bytes], Answer]
"""A request's body to its answer."""


class Server(http.server.ThreadingHTTPServer):
    """A function that serves.

    Args:
        address: host and port.
        routes: by method and path, such as ("GET", "/ready").
        largest: bytes of a body.
        token: that every request but GET has to bring; None: none has to.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        routes: Mapping[tuple[str, str], Route],
        largest: int,
        token: str | None = None,
    ) -> None:
        self.routes, self.largest, self.token = routes, largest, token
        self.heard = time.monotonic()
        self.working = 0
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking for this machine's name, which may take seconds."""
        self.socket.setsockopt(socketserver_options()[0], socketserver_options()[1], 1)
        self.socket.bind(self.server_address)
        host, self.server_port = self.socket.getsockname()[:2]
        self.server_name = str(host)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait while too many connections are open."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; a mistake of this code is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
