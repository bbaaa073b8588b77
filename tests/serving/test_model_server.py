import base64
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty
from seldon_core import wrapper
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc
from seldon_core.seldon_client import SeldonClient

from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import VariantFile
from fededge.inference import load_model
from serving.limits import BODY_BYTES

pytestmark = pytest.mark.environment("serving")

PICKY = Path(__file__).parent / "fixtures" / "tiny_picky.tflite"
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
    return load_model(tiny).predict(X)


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
    "oversized": (b" " * (BODY_BYTES + 1), JSON, 413, "TOO_LARGE"),
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
        ("POST", "/transform-input", 404, "NOT_FOUND"),
        ("POST", "/aggregate", 404, "NOT_FOUND"),
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


def refused_over_grpc(
    server: LocalEndpoint, data: bytes, method: str = "/seldon.protos.Seldon/Predict"
) -> tuple[grpc.StatusCode, str]:
    """Code and reason with which raw bytes are refused."""
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(data, timeout=60)
    reason, separator, message = caught.value.details().partition(": ")
    assert separator, caught.value.details()
    assert message
    assert "\n" not in message
    return caught.value.code(), reason


def refused_over_rest(server: LocalEndpoint, message: dict[str, Any], path: str = PATH) -> tuple[int, str]:
    answer = requests.post(server.rest + path, json=message, timeout=60)
    return answer.status_code, answer.json()["status"]["reason"]


def float32(value: float, count: int = 784) -> dict[str, Any]:
    data = np.full(count, value, "<f4").tobytes()
    return {"binData": base64.b64encode(data).decode(), "meta": {"tags": {"dtype": "float32"}}}


def binary(count: int, **tags: Any) -> dict[str, Any]:
    return {"binData": base64.b64encode(bytes(count)).decode(), "meta": {"tags": tags}}


INVALID = grpc.StatusCode.INVALID_ARGUMENT
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "UNKNOWN_PAYLOAD"),
    ({"strData": "x"}, "UNKNOWN_PAYLOAD"),
    ({"data": {}}, "UNKNOWN_PAYLOAD"),
    (binary(0), "EMPTY"),
    ({"data": {"ndarray": []}}, "EMPTY"),
    ({"data": {"tensor": {"shape": [0], "values": []}}}, "EMPTY"),
    (binary(3), "WRONG_SHAPE"),
    (binary(784, shape=[1, 14, 56, 1]), "WRONG_SHAPE"),
    (binary(784, shape=[1, 784]), "WRONG_SHAPE"),
    (binary(784, shape="1"), "WRONG_SHAPE"),
    (binary(784, dtype="int4"), "WRONG_TYPE"),
    ({"data": {"ndarray": [["a"]]}}, "WRONG_TYPE"),
    ({"data": {"ndarray": [[1.0]]}}, "WRONG_SHAPE"),
    ({"data": {"tensor": {"shape": [2], "values": [1.0]}}}, "WRONG_SHAPE"),
    ({"data": {"tensor": {"shape": [1, 28, 28, 1], "values": [1e39] * 784}}}, "NOT_FINITE"),
    (float32(float("nan")), "NOT_FINITE"),
]


@pytest.mark.parametrize(("message", "reason"), MISTAKES)
def test_a_mistake_has_the_same_reason_over_rest_and_grpc(
    server: LocalEndpoint, message: dict[str, Any], reason: str
) -> None:
    assert refused_over_rest(server, message) == (400, reason)
    request = json_format.ParseDict(message, prediction_pb2.SeldonMessage())
    assert refused_over_grpc(server, request.SerializeToString()) == (INVALID, reason)


@pytest.mark.parametrize("kind", ["binData", "tensor", "ndarray"])
def test_an_answer_that_is_not_finite_is_refused_over_rest_and_grpc(server: LocalEndpoint, kind: str) -> None:
    images = np.full((1, 28, 28, 1), 3e38)
    message = {
        "binData": float32(3e38),
        "tensor": {"data": {"tensor": {"shape": [1, 28, 28, 1], "values": images.ravel().tolist()}}},
        "ndarray": {"data": {"ndarray": images.tolist()}},
    }[kind]
    assert refused_over_rest(server, message) == (422, "OUTPUT_NOT_FINITE")
    request = json_format.ParseDict(message, prediction_pb2.SeldonMessage())
    assert refused_over_grpc(server, request.SerializeToString()) == (INVALID, "OUTPUT_NOT_FINITE")


def test_examples_on_which_the_model_fails_are_told_over_rest_and_grpc() -> None:
    data = PICKY.read_bytes()
    variant = VariantFile(kind="float16", url=str(PICKY), digest=storage.digest(data), bytes=len(data))
    server = local_endpoint.start("picky", variant, 1)
    try:
        assert refused_over_rest(server, float32(1)) == (500, "MODEL_ERROR")
        request = json_format.ParseDict(float32(1), prediction_pb2.SeldonMessage())
        found = refused_over_grpc(server, request.SerializeToString())
        assert found == (grpc.StatusCode.INTERNAL, "MODEL_ERROR")
        assert requests.post(server.rest + PATH, json=binary(784), timeout=20).status_code == 200
    finally:
        local_endpoint.stop("picky")


@pytest.mark.parametrize(
    "data", [b"\xff", b"not a message", bytes(100), b"\x1a\xff\xff\xff\xff\x0f", b"\x1a\x04\x12\x02\xff\xff"]
)
def test_raw_bytes_that_are_no_message_are_refused_by_name(server: LocalEndpoint, data: bytes) -> None:
    assert refused_over_grpc(server, data) == (INVALID, "MALFORMED_PROTOBUF")


def test_a_message_that_is_nested_too_deep_is_refused_by_name(server: LocalEndpoint) -> None:
    data = b""
    for _ in range(2000):  # ListValue.values[0].list_value = what there is
        data = b"\x0a" + varint(len(value := b"\x32" + varint(len(data)) + data)) + value
    message = prediction_pb2.SeldonMessage(data=prediction_pb2.DefaultData()).SerializeToString()
    assert message == b"\x1a\x00"
    data = b"\x1a" + varint(len(data)) + data
    assert refused_over_grpc(server, b"\x1a" + varint(len(data)) + data)[0] == INVALID


def varint(number: int) -> bytes:
    most, rest = divmod(number, 128)
    return bytes([rest | 128]) + varint(most) if most else bytes([rest])


SERVED = {"Predict", "SendFeedback", "Metadata", "ModelMetadata"}
METHODS = [
    (service.full_name, method.name)
    for service in prediction_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize(("service", "method"), [each for each in METHODS if each[1] not in SERVED])
def test_what_is_not_served_over_grpc_is_said(server: LocalEndpoint, service: str, method: str) -> None:
    found = refused_over_grpc(server, b"", f"/{service}/{method}")
    assert found == (grpc.StatusCode.UNIMPLEMENTED, "NOT_FOUND")


def test_metadata_tells_the_same_over_rest_and_grpc(server: LocalEndpoint, stub: Any, tiny: bytes) -> None:
    expected = {
        "name": "tiny",
        "versions": ["3"],
        "platform": "litert",
        "inputs": [{"name": "examples", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [-1, 10]}],
        "custom": {"variant": "float16", "digest": storage.digest(tiny)},
    }
    for path in ("/metadata", "/api/v1.0/metadata"):
        assert requests.get(server.rest + path, timeout=20).json() == expected
    over_grpc = stub.ModelMetadata(prediction_pb2.SeldonModelMetadataRequest(), timeout=20)
    assert json.loads(json.dumps(json_format.MessageToDict(over_grpc))) == as_protobuf_says_it(expected)
    with grpc.insecure_channel(server.grpc) as channel:
        assert prediction_pb2_grpc.ModelStub(channel).Metadata(Empty(), timeout=20) == over_grpc


def as_protobuf_says_it(metadata: dict[str, Any]) -> dict[str, Any]:
    """Its JSON writes 64-bit integers as strings."""
    tensors = {
        name: [{**tensor, "shape": [str(size) for size in tensor["shape"]]} for tensor in metadata[name]]
        for name in ("inputs", "outputs")
    }
    return {**metadata, **tensors}


def test_feedback_is_counted_over_rest_and_grpc(server: LocalEndpoint, stub: Any) -> None:
    names = ("fededge_feedback_total", "seldon_api_model_feedback_reward_total")
    count, reward = (metric(server, name) for name in names)

    def counted(messages: int, rewards: float) -> bool:
        totals = [count + messages, reward + rewards]
        return until(lambda: [metric(server, name) for name in names] == totals)

    sent: dict[str, Any] = {
        "request": BODIES["uint8"],
        "response": {"data": {"ndarray": [[1, 0]]}},
        "reward": 0.75,
        "truth": {"data": {"ndarray": [3]}},
    }
    over_rest = requests.post(f"{server.rest}/api/v1.0/feedback", json=sent, timeout=20)
    assert over_rest.status_code == 200
    assert counted(1, 0.75)
    over_grpc = stub.SendFeedback(json_format.ParseDict(sent, prediction_pb2.Feedback()), timeout=20)
    assert counted(2, 1.5)
    assert json_format.MessageToDict(over_grpc) == over_rest.json()
    assert over_rest.json()["meta"]["tags"]["model_version"] == "3"
    stub.SendFeedback(prediction_pb2.Feedback(), timeout=20)
    assert counted(3, 1.5)


@pytest.mark.parametrize("reward", [-1.0, float("nan"), float("inf")])
def test_a_reward_that_cannot_be_added_up_is_refused_over_rest_and_grpc(
    server: LocalEndpoint, reward: float
) -> None:
    told = {-1.0: -1.0}.get(reward, "NaN" if reward != reward else "Infinity")
    assert refused_over_rest(server, {"reward": told}, "/api/v1.0/feedback") == (400, "WRONG_REWARD")
    message = prediction_pb2.Feedback(reward=reward).SerializeToString()
    found = refused_over_grpc(server, message, "/seldon.protos.Seldon/SendFeedback")
    assert found == (INVALID, "WRONG_REWARD")


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"[1]", 400, "WRONG_TYPE"),
        (b"{", 400, "MALFORMED_JSON"),
        (b"", 400, "EMPTY"),
        (b'{"reward": "x"}', 400, "WRONG_TYPE"),
        (b'{"price": 1}', 400, "WRONG_TYPE"),
        (b'{"reward": 1e300}', 400, "WRONG_TYPE"),
        (b'{"truth": 5}', 400, "WRONG_TYPE"),
    ],
)
def test_what_is_no_feedback_is_refused_by_name(
    server: LocalEndpoint, body: bytes, code: int, reason: str
) -> None:
    answer = requests.post(f"{server.rest}/api/v1.0/feedback", data=body, headers=JSON, timeout=20)
    assert (answer.status_code, answer.json()["status"]["reason"]) == (code, reason)


def test_grpc_takes_messages_up_to_the_limit_of_rest(server: LocalEndpoint, stub: Any) -> None:
    images = bytes(784 * 10_000)
    assert len(stub.Predict(prediction_pb2.SeldonMessage(binData=images), timeout=60).binData) == 400_000
    large = prediction_pb2.SeldonMessage(binData=bytes(BODY_BYTES + 1)).SerializeToString()
    assert refused_over_grpc(server, large) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")


@pytest.mark.parametrize("path", ["/live", "/ready"])
def test_health_is_told(server: LocalEndpoint, path: str) -> None:
    answer = requests.get(server.rest + path, timeout=20)
    assert (answer.status_code, answer.json()["status"]) == (200, path[1:])


def metric(server: LocalEndpoint, name: str) -> float:
    """Sum of a metric over its labels."""
    text = requests.get(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=20).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{"))


def test_prometheus_reads_every_example_of_concurrent_requests(server: LocalEndpoint) -> None:
    before = metric(server, "fededge_examples_total")
    with ThreadPoolExecutor(16) as pool:
        asked = [
            pool.submit(requests.post, server.rest + PATH, json=BODIES["uint8"], timeout=60)
            for _ in range(200)
        ]
    assert all(each.result().status_code == 200 for each in asked)
    assert until(lambda: metric(server, "fededge_examples_total") == before + 200 * len(PIXELS))
    assert metric(server, "fededge_predict_seconds_bucket") > 0


def test_metrics_name_deployment_version_and_variant(server: LocalEndpoint) -> None:
    def lines() -> list[str]:
        text = requests.get(f"http://127.0.0.1:{server.ports.metrics}/metrics", timeout=20).text
        return [line for line in text.splitlines() if line.startswith("fededge_examples_total{")]

    requests.post(server.rest + PATH, json=BODIES["uint8"], timeout=20)
    assert until(lambda: bool(lines()))
    for label in ('deployment_name="tiny"', 'model_version="3"', 'variant="float16"'):
        assert label in lines()[0]
    assert "NOT_IMPLEMENTED" not in lines()[0]


def test_the_image_on_a_cluster_is_not_called_the_models_version(
    variant: VariantFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seldon's operator sets this variable."""
    monkeypatch.setenv("PREDICTIVE_UNIT_IMAGE", "ghcr.io/fededge/serving:0.2.0")
    endpoint = local_endpoint.start("labels", variant, 7)
    try:
        requests.post(endpoint.rest + PATH, json=BODIES["uint8"], timeout=20)
        assert until(lambda: listens(endpoint.ports.metrics))
        url = f"http://127.0.0.1:{endpoint.ports.metrics}/metrics"
        assert until(lambda: 'model_version="7"' in requests.get(url, timeout=20).text)
        text = requests.get(url, timeout=20).text
        assert 'model_version="0.2.0"' not in text
        assert 'image_version="0.2.0"' in text
    finally:
        local_endpoint.stop("labels")


def test_under_four_threads_every_example_over_rest_and_grpc_is_counted(
    variant: VariantFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_THREADS", "4")
    endpoint = local_endpoint.start("threads", variant, 1)

    def over_rest(_: int) -> bool:
        return requests.post(endpoint.rest + PATH, json=BODIES["uint8"], timeout=60).ok

    def over_grpc(_: int) -> bool:
        message = prediction_pb2.SeldonMessage(binData=PIXELS.tobytes())
        return bool(stubs.Predict(message, timeout=60).binData)

    try:
        with grpc.insecure_channel(endpoint.grpc) as channel, ThreadPoolExecutor(8) as pool:
            stubs = prediction_pb2_grpc.SeldonStub(channel)
            asked = [pool.submit(way, number) for number in range(400) for way in (over_rest, over_grpc)]
            assert all(each.result() for each in asked)
        assert until(lambda: metric(endpoint, "fededge_examples_total") == 800 * len(PIXELS))
        assert metric(endpoint, "fededge_examples_total") == 800 * len(PIXELS)
    finally:
        local_endpoint.stop("threads")


def test_the_names_replaced_in_seldon_are_still_those_it_uses() -> None:
    """Fails when an upgrade of seldon-core moves what our modules stand on."""
    folder = Path(wrapper.__file__).parent
    microservice = (folder / "microservice.py").read_text()
    assert "app.register_blueprint(user_model.model_error_handler)" in Path(wrapper.__file__).read_text()
    assert "requestProto = json_to_feedback(requestJson)" in Path(wrapper.__file__).read_text()
    assert "seldon_microservice.get_grpc_server(" in microservice
    assert "server.add_insecure_port(bind_address)" in microservice
    assert "seldon_metrics.update(metrics, method)" in (folder / "seldon_methods.py").read_text()
    assert "StandaloneApplication(app, options=options).run()" in microservice
    assert "class UserModelApplication(StandaloneApplication)" in (folder / "gunicorn_utils.py").read_text()


@pytest.fixture
def doomed(variant: VariantFile) -> Any:
    yield local_endpoint.start("doomed", variant, 1)
    local_endpoint.stop("doomed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_processes_of_a_server_end_with_it(doomed: LocalEndpoint, number: int) -> None:
    os.kill(doomed.pid, number)
    assert until(lambda: not doomed.running), "a process of the server lives on"
    assert not any(listens(port) for port in doomed.ports.all)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()
