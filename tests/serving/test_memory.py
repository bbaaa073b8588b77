"""What decoding costs: the estimate against the real thing, and a real server under requests that cost much."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
from google.protobuf.struct_pb2 import ListValue
from hypothesis import given
from hypothesis import strategies as st
from seldon_core.proto import prediction_pb2

from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import VariantFile
from serving import cost, limits

pytestmark = pytest.mark.environment("serving")

ROOT = Path(__file__).resolve().parents[2]
PATH = "/api/v1.0/predictions"
JSON = {"Content-Type": "application/json"}
MIB = 1 << 20


def nested(inner: bytes, size: int) -> bytes:
    """A JSON body of about `size` bytes: an ndarray of many `inner`."""
    return b'{"data":{"ndarray":[' + b",".join([inner] * (size // (len(inner) + 1))) + b"]}}"


def tensor(inner: bytes, size: int) -> bytes:
    count = size // (len(inner) + 1) // 784
    values = b",".join([inner] * (784 * count))
    return b'{"data":{"tensor":{"shape":[%d,28,28,1],"values":[' % count + values + b"]}}}"


def lists(count: int) -> bytes:
    """A serialized message whose ndarray holds `count` images."""
    row = ListValue()
    for _ in range(28):
        row.add_list().append(0.5)
    example = ListValue()
    for _ in range(28):
        example.add_list().CopyFrom(row)
    message = prediction_pb2.SeldonMessage()
    for _ in range(count):
        message.data.ndarray.add_list().CopyFrom(example)
    return bytes(message.SerializeToString())


def wrapped(*fields: int, content: bytes) -> bytes:
    """`content` as a field within fields."""
    for number in reversed(fields):
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        content = bytes([number << 3 | 2]) + length + bytes([size]) + content
    return content


BODIES = {
    "empty lists": nested(b"[]", 8 * MIB),
    "lists of one number": nested(b"[0.5]", 8 * MIB),
    "objects": nested(b'{"a":0}', 8 * MIB),
    "images": nested(json.dumps(np.full((28, 28, 1), 0.5).tolist()).encode(), 8 * MIB),
    "tensor": tensor(b"0.5", 8 * MIB),
    "texts": nested(b'"abcdef"', 8 * MIB),
}
MESSAGES = {
    "images": lists(30),
    "empty values": wrapped(3, 3, content=b"\x0a\x00" * 200_000),
    "binData": prediction_pb2.SeldonMessage(binData=bytes(784 * 10_000)).SerializeToString(),
    "tensor": prediction_pb2.SeldonMessage(
        data={"tensor": {"shape": [500, 28, 28, 1], "values": [0.5] * (784 * 500)}}
    ).SerializeToString(),
    "no message": b"\xff" * 100_000,
}
DECODE = """
import resource, sys
from fededge import payloads
from serving import proto_payloads, rest
from seldon_core.proto import prediction_pb2

data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    if sys.argv[2] == "json":
        payloads.from_json(rest.OrJSON.loads(None, data), (28, 28, 1))
    else:
        proto_payloads.from_proto(prediction_pb2.SeldonMessage.FromString(data), (28, 28, 1))
except Exception:
    pass
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def really(data: bytes, kind: str, folder: Path) -> int:
    """Bytes that a process of its own takes to decode `data`."""
    file = folder / "data"
    file.write_bytes(data)
    command = [sys.executable, "-c", DECODE, str(file), kind]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.parametrize("name", BODIES)
def test_decoding_json_costs_no_more_than_was_told(name: str, tmp_path: Path) -> None:
    assert really(BODIES[name], "json", tmp_path) <= cost.of_json(BODIES[name]) + 8 * MIB


@pytest.mark.parametrize("name", MESSAGES)
def test_decoding_protobuf_costs_no_more_than_was_told(name: str, tmp_path: Path) -> None:
    assert really(MESSAGES[name], "protobuf", tmp_path) <= cost.of_message(MESSAGES[name]) + 8 * MIB


def test_bulk_payloads_cost_little() -> None:
    for name in ("binData", "tensor"):
        assert cost.of_message(MESSAGES[name]) <= 9 * len(MESSAGES[name])
    message = prediction_pb2.Feedback(request=prediction_pb2.SeldonMessage(binData=bytes(MIB)))
    assert cost.of_feedback(message.SerializeToString()) <= 6 * MIB


@given(st.binary(max_size=200))
def test_any_bytes_have_a_cost(data: bytes) -> None:
    for told in (cost.of_json(data), cost.of_message(data), cost.of_feedback(data)):
        assert told >= 0


def test_room_is_shared_and_waited_for() -> None:
    room = cost.Room(10)
    order: list[str] = []
    with room.taken(7), room.taken(4, wait=False) as had:
        assert not had
        with room.taken(3, wait=False) as small:
            assert small

        def second() -> None:
            with room.taken(100):  # all there is
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.fixture(scope="module")
def limited(variant: VariantFile) -> Iterator[LocalEndpoint]:
    yield local_endpoint.start("memory", variant, 1)
    local_endpoint.stop("memory")


def peak(endpoint: LocalEndpoint) -> int:
    """Sum of the most bytes that each process of the server has had."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(folder.name)) == endpoint.pid:
                lines = (folder / "status").read_text().splitlines()
                total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total


def test_requests_that_cost_too_much_are_refused_by_name(limited: LocalEndpoint) -> None:
    for name in ("empty lists", "lists of one number", "images"):
        answer = requests.post(
            limited.rest + PATH, data=BODIES[name][:-3] * 2 + b"]}}", headers=JSON, timeout=60
        )
        assert (answer.status_code, answer.json()["status"]["reason"]) == (413, "TOO_LARGE")
    with grpc.insecure_channel(limited.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        predict = channel.unary_unary("/seldon.protos.Seldon/Predict")
        with pytest.raises(grpc.RpcError) as caught:
            predict(wrapped(3, 3, content=b"\x0a\x00" * (4 * MIB)), timeout=60)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(predict(lists(30), timeout=60)) > 0


def test_many_large_requests_at_once_stay_within_the_memory_of_a_pod(limited: LocalEndpoint) -> None:
    """A pod has 1 GiB by default."""
    largest = nested(json.dumps(np.full((28, 28, 1), 0.5).tolist()).encode(), 6 * MIB)
    assert cost.of_json(largest) <= limits.DECODE_BYTES
    values = prediction_pb2.SeldonMessage(binData=bytes(784 * 20_000)).SerializeToString()
    with grpc.insecure_channel(limited.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        predict = channel.unary_unary("/seldon.protos.Seldon/Predict")
        with ThreadPoolExecutor(8) as pool:
            over_rest = [
                pool.submit(requests.post, limited.rest + PATH, data=largest, headers=JSON, timeout=90)
                for _ in range(8)
            ]
            over_grpc = [pool.submit(predict, values, timeout=90) for _ in range(4)]
            assert {each.result().status_code for each in over_rest} == {200}
            assert all(each.result() for each in over_grpc)
    print(f"peak of all processes together: {peak(limited) / MIB:.0f} MiB")
    assert peak(limited) < 1024 * MIB
