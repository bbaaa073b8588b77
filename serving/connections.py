"""HTTP connections that are slow, silent or false cost the others nothing.

Seldon runs its REST and metrics servers in gunicorn. Its stock worker gives each connection a thread
from the moment it is accepted until its sender is done: a few idle ones are the end of the service.
Here a connection waits for its first byte without a thread; a request has `RECEIVE_SECONDS` to arrive;
its body is read whole, or not at all, before the application sees it.
"""

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import TConn, ThreadWorker
from seldon_core.gunicorn_utils import StandaloneApplication

from fededge import settings
from fededge.delivery.endpoints.pod import FINISH_SECONDS
from serving import cost, lifetime, limits

CHUNK = 1 << 16
GRACE = 3.0  # seconds that a connection has for its first byte, however many others wait
PAUSE = 0.01
LEAVE = 1.0  # seconds after SIGTERM in which a connection's next request is still answered, and then ends it
LINGER_BYTES = 64 << 20  # of a refused body that are read and dropped, so that its sender sees the answer
STOCK_CONFIG = StandaloneApplication.load_config


def install() -> None:
    """Let the HTTP servers that Seldon starts keep our limits and listen on `FEDEDGE_ENDPOINT_HOST`."""
    StandaloneApplication.load_config = _load_config


def _load_config(application: StandaloneApplication) -> None:
    STOCK_CONFIG(application)
    port = application.options["bind"].rpartition(":")[2]
    ours = {
        "bind": f"{settings.endpoint_host()}:{port}",
        "worker_class": f"{__name__}.Worker",  # gunicorn wants its name
        "worker_connections": limits.CONNECTIONS + 1,  # gunicorn's own limit is never reached
        "threads": limits.THREADS,
        "keepalive": limits.IDLE_SECONDS,
        "timeout": limits.HUNG_SECONDS,
        "graceful_timeout": FINISH_SECONDS,
        "when_ready": lifetime.watch_children,
    }
    for name, value in ours.items():
        application.cfg.set(name, value)


class Worker(ThreadWorker):
    """Gunicorn's worker with threads, and limits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiving: dict[TConn, float] = {}  # and when each must be done
        self._held = 0  # bytes of all bodies
        self._counting = threading.Lock()
        self._leaves: float | None = None  # when this worker stops answering

    def run(self) -> None:
        """Wait for connections and signals; see gunicorn."""
        self.poller.register(self.PIPE[0], selectors.EVENT_READ, lambda pipe: os.read(pipe, CHUNK))
        super().run()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: tell those who keep connections to make new ones, which another server takes, and leave."""
        self._leaves = self._leaves or time.monotonic() + LEAVE

    def accept(self, server: Any, listener: socket.socket) -> None:
        """Take a connection, to wait for its first byte; where there are too many, one waits to be taken."""
        if not self._has_room():
            time.sleep(PAUSE)  # the listener calls again at once
            return
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection = TConn(self.cfg, sock, client, server)
        connection.set_timeout()
        with self._lock:
            self.nr_conns += 1
            self._keep.append(connection)
            self.poller.register(sock, selectors.EVENT_READ, partial(self.reuse_connection, connection))

    def _has_room(self) -> bool:
        """Whether there is room for one more connection, if need be by ending the one that is idle for longest."""
        if self.nr_conns < limits.CONNECTIONS:
            return True
        with self._lock:
            if not self._keep or time.time() < self._keep[0].timeout - limits.IDLE_SECONDS + GRACE:
                return False
            idle = self._keep.popleft()
            self.poller.unregister(idle.sock)
            idle.close()
            self.nr_conns -= 1
            return True

    def reuse_connection(self, conn: TConn, client: socket.socket) -> None:
        """Give a connection that has something to read a thread, unless it was ended just now."""
        if client.fileno() >= 0:
            super().reuse_connection(conn, client)

    def murder_keepalived(self) -> None:
        """End what is overdue: idle connections, requests that are still arriving, and this worker.

        Called each second.
        """
        super().murder_keepalived()
        now = time.monotonic()
        for connection, deadline in self._receiving.copy().items():
            if now > deadline:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RD)  # its thread reads an end
        if self._leaves and (now > self._leaves or not self.nr_conns):
            self.alive = False

    def handle(self, conn: TConn) -> tuple[bool, TConn]:
        """Receive and answer one request, in a thread."""
        conn.sock.settimeout(limits.SEND_SECONDS)
        conn.parser.unreader.mxchunk = CHUNK
        with self._deadline(conn):
            return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Answer the request whose headers have arrived; whether the connection goes on."""
        length = req.body.reader.length if isinstance(req.body.reader, LengthReader) else None
        if length is None or length > limits.BODY_BYTES:
            return self._refuse(req, conn)
        if ("EXPECT", "100-continue") in [(name, value.lower()) for name, value in req.headers]:
            conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        with self._body(conn, length) as body:
            if body is not None:
                self._receiving.pop(conn, None)
                req.headers = [header for header in req.headers if header[0] != "EXPECT"]
                if self._leaves:
                    _end_afterwards(req)
                with limits.turns if length else contextlib.nullcontext():
                    req.body = cost.Body(body)
                    with cost.decoding.taken(req.body.cost):
                        return super().handle_request(req, conn)
        return self._refuse(req, conn)

    def _refuse(self, req: Any, conn: TConn) -> bool:
        """Let the application refuse a request whose body is not there, and end the connection."""
        req.body = cost.Body()
        _end_afterwards(req)
        super().handle_request(req, conn)
        conn.sock.shutdown(socket.SHUT_WR)
        with self._deadline(conn):  # a connection that is closed before its sender is done loses the answer
            left = LINGER_BYTES
            while left > 0 and (block := conn.sock.recv(CHUNK)):
                left -= len(block)
        return False

    @contextlib.contextmanager
    def _deadline(self, conn: TConn) -> Iterator[None]:
        """What is read inside must arrive in time."""
        self._receiving[conn] = time.monotonic() + limits.RECEIVE_SECONDS
        try:
            yield
        finally:
            self._receiving.pop(conn, None)

    @contextlib.contextmanager
    def _body(self, conn: TConn, length: int) -> Iterator[bytearray | None]:
        """The body; None where its sender stopped or was too slow, or where all bodies together are too large."""
        body = bytearray()
        held = 0
        try:
            while held < length and self._held < limits.HELD_BYTES:
                size = min(CHUNK, length - held)
                self._hold(size)
                held += size
                body += conn.parser.unreader.read(size)
                if len(body) < held:
                    break
            yield body if len(body) == length else None
        finally:
            self._hold(-held)

    def _hold(self, size: int) -> None:
        with self._counting:
            self._held += size


def _end_afterwards(req: Any) -> None:
    """Let the connection end after the answer, as if the sender had asked for it."""
    req.headers = [header for header in req.headers if header[0] not in ("CONNECTION", "EXPECT")]
    req.headers.append(("CONNECTION", "close"))
