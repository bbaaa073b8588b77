import base64
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from seldon_core import wrapper
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc
from seldon_core.seldon_client import SeldonClient

from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.inference import load_runtime
from serving import rpc
from serving.model_server import BODY_LIMIT

pytestmark = pytest.mark.environment("serving")

TINY = Path(__file__).parent / "fixtures" / "tiny.tflite"
PATH = "/api/v1.0/predictions"
PIXELS = np.random.default_rng(5).integers(0, 256, (7, 28, 28, 1), dtype=np.uint8)
X = PIXELS.astype(np.float32) / np.float32(255)
BODIES: dict[str, dict[str, Any]] = {
    "ndarray": {"data": {"ndarray": X.tolist()}},
    "tensor": {"data": {"tensor": {"shape": list(X.shape), "values": X.ravel().tolist()}}},
    "uint8": {"binData": base64.b64encode(PIXELS.tobytes()).decode()},
    "float32": {
        "binData": base64.b64encode(X.astype("<f4").tobytes()).decode(),
        "meta": {"tags": {"dtype": "float32"}},
    },
}


@pytest.fixture(scope="module")
def expected(tiny: bytes) -> np.ndarray:
    return load_runtime(tiny).predict(X)


@pytest.fixture
def stub(server: LocalEndpoint) -> Any:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options) as channel:
        yield prediction_pb2_grpc.SeldonStub(channel)


def values(answer: dict[str, Any]) -> np.ndarray:
    if "binData" in answer:
        shape = [int(size) for size in answer["meta"]["tags"]["shape"]]
        return np.frombuffer(base64.b64decode(answer["binData"]), "<f4").reshape(shape)
    data = answer["data"]
    if "tensor" in data:
        return np.array(data["tensor"]["values"], np.float32).reshape(data["tensor"]["shape"])
    return np.array(data["ndarray"], np.float32)


@pytest.mark.parametrize("kind", BODIES)
def test_rest_answers_as_the_model_does(server: LocalEndpoint, expected: np.ndarray, kind: str) -> None:
    answer = requests.post(server.rest + PATH, json=BODIES[kind], timeout=20)
    assert answer.status_code == 200
    np.testing.assert_allclose(values(answer.json()), expected, atol=1e-6)


@pytest.mark.parametrize("kind", BODIES)
def test_grpc_answers_as_the_model_does(stub: Any, expected: np.ndarray, kind: str) -> None:
    from google.protobuf import json_format

    request = json_format.ParseDict(BODIES[kind], prediction_pb2.SeldonMessage())
    answer = json_format.MessageToDict(stub.Predict(request, timeout=20))
    np.testing.assert_allclose(values(answer), expected, atol=1e-6)


def test_answers_carry_version_variant_and_digest(server: LocalEndpoint, stub: Any, tiny: bytes) -> None:
    promised = {"model_version": "3", "variant": "float16", "digest": storage.digest(tiny)}
    rest = requests.post(server.rest + PATH, json=BODIES["ndarray"], timeout=20).json()
    assert rest["meta"]["tags"] == promised
    tags = stub.Predict(prediction_pb2.SeldonMessage(binData=PIXELS.tobytes()), timeout=20).meta.tags
    assert {name: tags[name].string_value for name in promised} == promised


def test_seldons_own_microservice_client_is_answered(server: LocalEndpoint, expected: np.ndarray) -> None:
    client = SeldonClient(microservice_endpoint=server.rest.removeprefix("http://"))
    answer = client.microservice(data=X, payload_type="tensor", transport="rest", method="predict")
    assert answer.success
    found = np.array(answer.response.data.tensor.values).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-6)


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "malformed JSON": (b'{"data": ', JSON, 400, "MALFORMED_JSON"),
    "NaN": (b'{"data": {"ndarray": [[NaN]]}}', JSON, 400, "MALFORMED_JSON"),
    "not UTF-8": (b'{"data": "\xff"}', JSON, 400, "MALFORMED_JSON"),
    "endlessly nested": (b"[" * 100_000, JSON, 400, "MALFORMED_JSON"),
    "beyond float32": (b'{"data": {"tensor": {"shape": [1,28,28,1], "values": [%s]}}}'
                       % b",".join([b"1e39"] * 784), JSON, 400, "NOT_FINITE"),
    "wrong shape": (b'{"data": {"ndarray": [[1, 2]]}}', JSON, 400, "WRONG_SHAPE"),
    "wrong type": (b'{"data": {"ndarray": ["a"]}}', JSON, 400, "WRONG_TYPE"),
    "not an object": (b"[1]", JSON, 400, "WRONG_TYPE"),
    "null": (b"null", JSON, 400, "WRONG_TYPE"),
    "empty": (b"", JSON, 400, "EMPTY"),
    "no examples": (b'{"data": {"ndarray": []}}', JSON, 400, "EMPTY"),
    "malformed base64": (b'{"binData": "%%"}', JSON, 400, "MALFORMED_BASE64"),
    "unknown payload": (b'{"strData": "x"}', JSON, 400, "UNKNOWN_PAYLOAD"),
    "no content type": (b"{}", {}, 415, "WRONG_TYPE"),
    "malformed form": (b"json=%7B", FORM, 400, "MALFORMED_JSON"),
    "NaN in a form": (b'json={"data":{"tensor":{"shape":[1],"values":[NaN]}}}', FORM, 400, "WRONG_SHAPE"),
    "multipart": (b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}, 415, "WRONG_TYPE"),
    "oversized": (b" " * (BODY_LIMIT + 1), JSON, 413, "TOO_LARGE"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_request_is_refused_by_name(server: LocalEndpoint, mistake: str) -> None:
    body, headers, code, reason = BAD[mistake]
    answer = requests.post(server.rest + PATH, data=body, headers=headers, timeout=30)
    status = answer.json()["status"]
    assert (answer.status_code, status["code"], status["reason"]) == (code, code, reason)
    assert status["info"]
    assert status["status"] == "FAILURE"
    assert requests.get(f"{server.rest}/ready", timeout=20).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/nothing/here", 404, "NOT_FOUND"),
        ("POST", "/nothing/here", 405, "METHOD_NOT_ALLOWED"),
        ("GET", PATH, 404, "NOT_FOUND"),
        ("GET", "/predict", 415, "WRONG_TYPE"),
        ("GET", "/predict?json={", 400, "MALFORMED_JSON"),
        ("POST", "/route", 404, "NOT_FOUND"),
        ("POST", "/api/v1.0/feedback", 404, "NOT_FOUND"),
    ],
)
def test_what_is_not_served_is_said(
    server: LocalEndpoint, method: str, path: str, code: int, reason: str
) -> None:
    answer = requests.request(method, server.rest + path, timeout=20)
    assert (answer.status_code, answer.json()["status"]["reason"]) == (code, reason)


def test_a_body_of_unknown_length_is_refused(server: LocalEndpoint) -> None:
    answer = requests.post(server.rest + PATH, data=iter([b"{", b"}"]), headers=JSON, timeout=20)
    assert (answer.status_code, answer.json()["status"]["reason"]) == (411, "LENGTH_REQUIRED")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (prediction_pb2.SeldonMessage(), "UNKNOWN_PAYLOAD"),
        (prediction_pb2.SeldonMessage(strData="x"), "UNKNOWN_PAYLOAD"),
        (prediction_pb2.SeldonMessage(binData=b"123"), "WRONG_SHAPE"),
    ],
)
def test_a_bad_grpc_request_is_an_invalid_argument(stub: Any, request_: Any, reason: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request_, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{reason}: ")


def test_grpc_takes_messages_up_to_the_limit_of_rest(stub: Any) -> None:
    images = bytes(784 * 10_000)
    assert len(stub.Predict(prediction_pb2.SeldonMessage(binData=images), timeout=60).binData) == 400_000
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(prediction_pb2.SeldonMessage(binData=bytes(BODY_LIMIT + 1)), timeout=60)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("path", ["/live", "/ready"])
def test_health_is_told(server: LocalEndpoint, path: str) -> None:
    answer = requests.get(server.rest + path, timeout=20)
    assert (answer.status_code, answer.json()["status"]) == (200, path[1:])


def test_prometheus_reads_examples_and_times(server: LocalEndpoint) -> None:
    def count() -> float:
        text = requests.get(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=20).text
        lines = [line for line in text.splitlines() if line.startswith("fededge_examples_total{")]
        assert "fededge_predict_seconds_bucket{" in text
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    requests.post(server.rest + PATH, json=BODIES["uint8"], timeout=20)
    before = count()
    requests.post(server.rest + PATH, json=BODIES["uint8"], timeout=20)
    assert count() == before + len(PIXELS)


def test_the_names_replaced_in_seldon_are_still_those_it_uses() -> None:
    """Fails when an upgrade of seldon-core moves what serving/rpc.py and serving/rest.py stand on."""
    source = Path(wrapper.__file__).read_text()
    assert "seldon_model = SeldonModelGRPC(user_model, seldon_metrics)" in source
    assert "app.register_blueprint(user_model.model_error_handler)" in source
    assert (
        "seldon_microservice.get_grpc_server("
        in Path(wrapper.__file__).with_name("microservice.py").read_text()
    )
    assert issubclass(rpc.PredictionService, wrapper.SeldonModelGRPC)


@pytest.fixture
def doomed(tiny: bytes) -> Any:
    variant = {"kind": "float16", "url": str(TINY), "digest": storage.digest(tiny)}
    yield local_endpoint.start("doomed", variant, 1)
    local_endpoint.stop("doomed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_processes_of_a_server_end_with_it(doomed: LocalEndpoint, number: int) -> None:
    os.kill(doomed.pid, number)
    assert until(lambda: not doomed.running), "a process of the server lives on"
    for port in doomed.ports.all:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()
