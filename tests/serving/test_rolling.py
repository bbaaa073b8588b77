"""A new version in place of an old one, without Seldon's executor: real servers behind what stands for a service.

As Kubernetes does, one replica after another: the service spreads new connections over the servers that are ready, sends
none to the old one once its new one is, leaves those that are there alone, and ends the old server as many seconds later
as its `preStop` takes.
"""

import base64
import contextlib
import itertools
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException

import grpc
import pytest
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc

from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.delivery.endpoints.pod import FORGET_SECONDS
from fededge.documents import VariantFile

pytestmark = pytest.mark.environment("serving")

BODY = json.dumps({"binData": base64.b64encode(bytes(784)).decode()}).encode()
MESSAGE = prediction_pb2.SeldonMessage(binData=bytes(784))


class Service:
    """Where new connections go, in turn, and what became of the requests."""

    def __init__(self, first: list[LocalEndpoint]) -> None:
        self.to = first
        self.over = threading.Event()
        self.versions: list[str] = []
        self.lost: list[str] = []
        self._turn = itertools.count()

    def next(self) -> LocalEndpoint:
        """The server of the next connection."""
        ready = self.to
        return ready[next(self._turn) % len(ready)]


def over_rest(service: Service) -> None:
    """A client that keeps its connection, and makes a new one where that was ended while idle."""
    while not service.over.is_set():
        connection = HTTPConnection("127.0.0.1", service.next().ports.rest, timeout=20)
        connection.connect()
        kept = True
        while kept and not service.over.is_set() and not select.select([connection.sock], [], [], 0)[0]:
            try:
                connection.request(
                    "POST", "/api/v1.0/predictions", BODY, {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                kept = not answer.will_close
                service.versions.append(json.loads(answer.read())["meta"]["tags"]["model_version"])
            except (OSError, HTTPException, KeyError) as error:
                service.lost.append(repr(error))
                kept = False
            time.sleep(0.005)
        connection.close()


def over_grpc(service: Service) -> None:
    """A client with one channel, to an address of the service; it retries UNAVAILABLE once."""
    with (
        routed(service) as address,
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel,
    ):
        stub = prediction_pb2_grpc.SeldonStub(channel)
        while not service.over.is_set():
            for last in (False, True):
                try:
                    answer = stub.Predict(MESSAGE, timeout=20)
                    service.versions.append(answer.meta.tags["model_version"].string_value)
                    break
                except grpc.RpcError as error:
                    if last or error.code() != grpc.StatusCode.UNAVAILABLE:
                        service.lost.append(repr(error))
                        break
            time.sleep(0.005)


@contextlib.contextmanager
def routed(service: Service) -> Iterator[str]:
    """An address whose connections go where the service sends them when they are made."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", service.next().ports.grpc))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def started(variant: VariantFile) -> Iterator[Callable[[str, int], LocalEndpoint]]:
    """Starts a server of a version, which is ready then; all are stopped in the end."""
    names = []

    def start(name: str, version: int) -> LocalEndpoint:
        names.append(name)
        return local_endpoint.start(name, variant, version)

    yield start
    for name in names:
        local_endpoint.stop(name)


Client = Callable[[Service], None]


@pytest.mark.parametrize(
    ("replicas", "kinds"),
    [(1, [over_rest]), (1, [over_grpc]), pytest.param(2, [over_rest, over_grpc], marks=pytest.mark.slow)],
)
def test_no_request_is_lost_while_a_new_version_takes_over(
    started: Callable[[str, int], LocalEndpoint], replicas: int, kinds: list[Client]
) -> None:
    ready = [started(f"old-{number}", 1) for number in range(replicas)]
    services = [Service(ready) for _ in kinds]
    clients = [
        threading.Thread(target=kind, args=(service,))
        for kind, service in zip(kinds, services, strict=True)
        for _ in range(8 // len(kinds))
    ]
    for each in clients:
        each.start()
    time.sleep(1)
    for number, ending in enumerate(list(ready)):
        new = started(f"new-{number}", 2)
        ready = [*(each for each in ready if each != ending), new]
        for service in services:
            service.to = ready
        time.sleep(FORGET_SECONDS)
        os.kill(ending.pid, signal.SIGTERM)
        end = time.monotonic() + 20
        while ending.running and time.monotonic() < end:
            time.sleep(0.05)
        assert not ending.running
    time.sleep(1)
    for service in services:
        service.over.set()
    for each in clients:
        each.join(30)
    for service in services:
        assert {*service.versions} == {"1", "2"}
        assert service.lost == []
