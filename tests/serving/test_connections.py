"""Senders that are slow, silent or false, against a real server."""

import base64
import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc

from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import VariantFile
from serving import limits

pytestmark = pytest.mark.environment("serving")

PATH = "/api/v1.0/predictions"
IMAGE = bytes(784)
BODY = json.dumps({"binData": base64.b64encode(IMAGE).decode()}).encode()
SOON = limits.RECEIVE_SECONDS / 2  # before the server would end a slow sender


def head(length: int) -> bytes:
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.contextmanager
def connected(port: int, count: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(count)
        ]
        for each in sockets:
            each.sendall(data)
        yield sockets


@contextlib.contextmanager
def half_sent_calls(server: LocalEndpoint, count: int) -> Iterator[None]:
    """Calls over gRPC whose message does not come."""
    over = threading.Event()

    def messages() -> Iterator[bytes]:
        over.wait()
        yield b""

    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.stream_unary("/seldon.protos.Seldon/Predict")
        calls = [call.future(messages()) for _ in range(count)]
        yield
        over.set()
        for each in calls:
            each.cancel()


def everyone_else_is_answered(server: LocalEndpoint) -> None:
    for _ in range(5):
        assert requests.post(server.rest + PATH, data=BODY, headers=JSON, timeout=SOON).status_code == 200
    assert requests.get(f"{server.rest}/ready", timeout=SOON).status_code == 200
    assert requests.get(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=SOON).status_code == 200
    with grpc.insecure_channel(server.grpc) as channel:
        answer = prediction_pb2_grpc.SeldonStub(channel).Predict(
            prediction_pb2.SeldonMessage(binData=IMAGE), timeout=SOON
        )
        assert len(answer.binData) == 40


JSON = {"Content-Type": "application/json"}


def test_idle_connections_change_nothing_for_others(server: LocalEndpoint) -> None:
    with contextlib.ExitStack() as stack:
        for port in server.ports.all:
            stack.enter_context(connected(port, 200))
        everyone_else_is_answered(server)


def test_half_sent_requests_change_nothing_for_others(server: LocalEndpoint) -> None:
    with connected(server.ports.rest, 50, head(len(BODY)) + BODY[:100]), half_sent_calls(server, 50):
        with connected(server.ports.metrics, 50, b"GET /metrics HTTP/1.1\r\n"):
            everyone_else_is_answered(server)


def test_more_connections_than_are_taken_end_the_longest_idle_ones(server: LocalEndpoint) -> None:
    with connected(server.ports.rest, limits.CONNECTIONS + 50) as idle:
        everyone_else_is_answered(server)
        assert idle[0].recv(1) == b""


def test_bodies_that_are_not_done_take_limited_memory(server: LocalEndpoint) -> None:
    before = memory(server)
    with connected(server.ports.rest, 60, head(limits.BODY_BYTES)) as senders:
        for each in senders:
            each.setblocking(False)
        end = time.monotonic() + SOON
        while time.monotonic() < end:  # as much as is taken
            for each in senders:
                with contextlib.suppress(OSError):
                    each.send(bytes(1 << 16))
            assert memory(server) - before < 4 * limits.HELD_BYTES
    everyone_else_is_answered(server)


def memory(server: LocalEndpoint) -> int:
    """Bytes of the server's processes together."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(folder.name)) == server.pid:
                resident = re.search(r"^RssAnon:\s*(\d+) kB", (folder / "status").read_text(), re.MULTILINE)
                total += 1024 * int(resident[1]) if resident else 0
    return total


def test_a_server_with_slow_senders_ends_when_it_is_asked_to(variant: VariantFile) -> None:
    endpoint = local_endpoint.start("slow-senders", variant, 1)
    with connected(endpoint.ports.rest, 10), connected(endpoint.ports.rest, 10, head(len(BODY))):
        assert local_endpoint.stop("slow-senders")
    assert not endpoint.running


def test_a_length_beyond_every_limit_is_refused_at_once_and_the_connection_ends(
    server: LocalEndpoint,
) -> None:
    with connected(server.ports.rest, 1, head(99999999999999) + b"{") as (sender,):
        sender.settimeout(SOON)
        status, reason, connection = answer(sender)
        assert (status, reason, connection) == (413, "TOO_LARGE", "close")
    everyone_else_is_answered(server)


def test_a_sender_that_expects_100_continue_gets_it(server: LocalEndpoint) -> None:
    request = head(len(BODY))[:-2] + b"Expect: 100-continue\r\n\r\n"
    with connected(server.ports.rest, 1, request) as (sender,):
        sender.settimeout(SOON)
        assert sender.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sender.sendall(BODY)
        assert sender.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_connection_serves_one_request_after_another(server: LocalEndpoint) -> None:
    with connected(server.ports.rest, 1) as (sender,):
        for _ in range(3):
            sender.sendall(head(len(BODY)) + BODY)
            received = b""
            while not received.endswith(b"}"):
                received += sender.recv(10_000)
            assert received.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_does_not_arrive_in_time_is_refused_by_name_however_it_trickles(
    server: LocalEndpoint,
) -> None:
    over = threading.Event()

    def trickle(sender: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.3):
                sender.sendall(b" ")

    with connected(server.ports.rest, 2, head(len(BODY)) + b"{") as (silent, slow):
        thread = threading.Thread(target=trickle, args=(slow,))
        thread.start()
        try:
            assert answer(silent) == (408, "INCOMPLETE", "close")
            assert answer(slow) == (408, "INCOMPLETE", "close")
        finally:
            over.set()
            thread.join()


def reused(server: LocalEndpoint, connections: int, idle: float) -> list[bool]:
    """Whether connections that have answered once answer again after `idle` seconds: Seldon's executor keeps
    its own for 90 seconds, and makes a request that meets an ended one fail."""

    def answered(sender: socket.socket) -> bool:
        sender.sendall(head(len(BODY)) + BODY)
        received = b""
        while not received.endswith(b"}") and (block := sender.recv(10_000)):
            received += block
        return received.startswith(b"HTTP/1.1 200 ")

    with connected(server.ports.rest, connections) as senders:
        assert all(answered(each) for each in senders)
        time.sleep(idle)
        return [answered(each) for each in senders]


def test_connections_that_the_executor_keeps_idle_are_answered(server: LocalEndpoint) -> None:
    """3 seconds are more than the 2 of Seldon's own server; the next test waits for all 90."""
    assert limits.IDLE_SECONDS > 90
    assert all(reused(server, 50, 3))


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_connections_that_the_executor_keeps_idle_for_90_seconds_are_answered(server: LocalEndpoint) -> None:
    assert all(reused(server, 50, 90))


def test_headers_that_do_not_arrive_in_time_end_the_connection(server: LocalEndpoint) -> None:
    with connected(server.ports.rest, 1, b"POST /") as (sender,):
        assert sender.recv(1) == b""


def answer(sender: socket.socket) -> tuple[int, str, str]:
    """Status, reason and `Connection` of the answer, read until the server ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while block := sender.recv(10_000):
            received += block
    lines, _, body = received.decode().partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in lines.split("\r\n")[1:])
    return int(lines.split()[1]), json.loads(body)["status"]["reason"], headers["Connection"]


def test_a_server_listens_on_this_machine_only(server: LocalEndpoint) -> None:
    assert not any(reachable("127.0.0.2", port) for port in server.ports.all)


def test_a_server_listens_on_all_interfaces_when_told_to(
    variant: VariantFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_ENDPOINT_HOST", "0.0.0.0")
    endpoint = local_endpoint.start("open", variant, 1)
    try:
        assert all(reachable("127.0.0.2", port) for port in endpoint.ports.all)
    finally:
        local_endpoint.stop("open")


def reachable(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
