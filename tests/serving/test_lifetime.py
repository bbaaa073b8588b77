"""The processes of a real server: they finish what is under way, and end together."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from seldon_core.proto import prediction_pb2

from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import VariantFile

pytestmark = pytest.mark.environment("serving")

PATH = "/api/v1.0/predictions"
BODY = json.dumps({"data": {"ndarray": np.zeros((1, 28, 28, 1)).tolist()}}).encode()


@pytest.fixture
def doomed(variant: VariantFile) -> Iterator[LocalEndpoint]:
    yield local_endpoint.start("doomed", variant, 1)
    local_endpoint.stop("doomed")


def children(pid: int) -> list[int]:
    """In the order of their start."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(fields[19]), int(folder.name)))
    return [each for _, each in sorted(found)]


PROCESSES: dict[str, Callable[[int], int]] = {
    "keeps the metrics": lambda pid: children(pid)[0],
    "serves gRPC": lambda pid: children(pid)[1],
    "answers gRPC": lambda pid: children(children(pid)[1])[0],
    "serves metrics": lambda pid: children(pid)[2],
}


@pytest.mark.parametrize("which", PROCESSES)
def test_a_server_ends_when_one_of_its_processes_dies(doomed: LocalEndpoint, which: str) -> None:
    os.kill(PROCESSES[which](doomed.pid), signal.SIGKILL)
    assert until(lambda: not doomed.running), "a process of the server lives on"
    assert "of the model server died" in Path(doomed.log).read_text()


def test_a_worker_of_rest_that_dies_is_replaced(doomed: LocalEndpoint) -> None:
    worker = children(doomed.pid)[3]
    os.kill(worker, signal.SIGKILL)
    assert until(lambda: worker not in children(doomed.pid) and len(children(doomed.pid)) == 4)
    assert requests.get(f"{doomed.rest}/ready", timeout=20).status_code == 200


def test_a_call_over_grpc_that_is_under_way_is_answered_before_the_server_ends(
    doomed: LocalEndpoint,
) -> None:
    slow = prediction_pb2.SeldonMessage()  # more than a second of parsing
    for _ in range(30):
        example = slow.data.ndarray.add_list()
        for row in np.zeros((28, 28)):
            line = example.add_list()
            for value in row:
                line.add_list().append(value)
    answers: list[Any] = []
    with grpc.insecure_channel(doomed.grpc) as channel:
        call = channel.unary_unary("/seldon.protos.Seldon/Predict").future(slow.SerializeToString())
        time.sleep(0.4)
        assert not call.done()
        os.kill(doomed.pid, signal.SIGTERM)
        answers.append(prediction_pb2.SeldonMessage.FromString(call.result(timeout=30)))
    assert len(answers[0].data.ndarray.values) == 30
    assert until(lambda: not doomed.running)


def test_a_request_over_rest_that_is_under_way_is_answered_before_the_server_ends(
    doomed: LocalEndpoint,
) -> None:
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
    ]
    with socket.create_connection(("127.0.0.1", doomed.ports.rest), timeout=20) as sender:
        sender.sendall("\r\n".join([*lines, "", ""]).encode() + BODY[:100])
        time.sleep(0.4)
        os.kill(doomed.pid, signal.SIGTERM)
        threading.Timer(1.0, sender.sendall, [BODY[100:]]).start()
        assert sender.recv(100).startswith(b"HTTP/1.1 200 ")
    assert until(lambda: not doomed.running)


def test_an_idle_server_ends_at_once_when_it_is_asked_to(doomed: LocalEndpoint) -> None:
    begun = time.monotonic()
    os.kill(doomed.pid, signal.SIGTERM)
    assert until(lambda: not doomed.running)
    assert time.monotonic() - begun < 5


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()
