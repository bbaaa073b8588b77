import base64
import json
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from seldon_core.proto import prediction_pb2

from fededge import payloads
from fededge.errors import RequestError
from serving import proto_payloads

pytestmark = pytest.mark.environment("serving")

SHAPE = (3, 2, 1)
FLOATS = st.floats(-1e6, 1e6, width=32)
BATCHES = st.integers(1, 4).flatmap(lambda n: arrays(np.float32, (n, *SHAPE), elements=FLOATS))
PIXELS = st.integers(1, 4).flatmap(lambda n: arrays(np.uint8, (n, *SHAPE)))


def requests_for(x: np.ndarray) -> dict[str, dict[str, Any]]:
    return {
        "ndarray": {"data": {"ndarray": x.tolist()}},
        "tensor": {"data": {"tensor": {"shape": list(x.shape), "values": x.ravel().tolist()}}},
        "binData": {
            "binData": base64.b64encode(x.astype("<f4").tobytes()).decode(),
            "meta": {"tags": {"dtype": "float32"}},
        },
    }


def proto(message: dict[str, Any]) -> prediction_pb2.SeldonMessage:
    return json_format.ParseDict(message, prediction_pb2.SeldonMessage())


@given(x=BATCHES, kind=st.sampled_from(["ndarray", "tensor", "binData"]))
def test_examples_survive_json_and_protobuf(x: np.ndarray, kind: str) -> None:
    message = json.loads(json.dumps(requests_for(x)[kind]))
    for found, told in (payloads.from_json(message, SHAPE), proto_payloads.from_proto(proto(message), SHAPE)):
        assert found.dtype == np.float32
        assert told == kind
        np.testing.assert_array_equal(found, x)


@given(pixels=PIXELS)
def test_bytes_without_a_dtype_are_pixels_scaled_to_one(pixels: np.ndarray) -> None:
    message = {"binData": base64.b64encode(pixels.tobytes()).decode()}
    for found, _ in (payloads.from_json(message, SHAPE), proto_payloads.from_proto(proto(message), SHAPE)):
        np.testing.assert_array_equal(found, pixels.astype(np.float32) / np.float32(255))


@given(pixels=PIXELS)
def test_bytes_may_say_their_shape(pixels: np.ndarray) -> None:
    message = {
        "binData": base64.b64encode(pixels.tobytes()).decode(),
        "meta": {"tags": {"shape": list(pixels.shape)}},
    }
    for found, _ in (payloads.from_json(message, SHAPE), proto_payloads.from_proto(proto(message), SHAPE)):
        assert found.shape == pixels.shape


@given(outputs=arrays(np.float32, (3, 4), elements=FLOATS))
def test_answers_in_bytes_tell_dtype_and_shape(outputs: np.ndarray) -> None:
    answer, tags = payloads.to_json(outputs, "binData")
    raw = base64.b64decode(answer["binData"])
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(tags["shape"]), outputs)
    assert proto_payloads.to_proto(outputs, "binData")[0].binData == raw
    assert tags["dtype"] == "float32"


@pytest.mark.parametrize("kind", ["ndarray", "tensor"])
def test_answers_in_protobuf_say_the_same_as_in_json(kind: str) -> None:
    outputs = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    answer, _ = payloads.to_json(outputs, kind)
    told = json.loads(json.dumps(answer, default=lambda value: value.tolist()))
    assert proto(told) == proto_payloads.to_proto(outputs, kind)[0]


def b64(count: int) -> str:
    return base64.b64encode(bytes(count)).decode()


ONE = np.zeros((1, *SHAPE)).tolist()
NAN = base64.b64encode(np.array([np.nan] * 6, "<f4").tobytes()).decode()
MISTAKES: list[tuple[Any, str]] = [
    ([1, 2], "WRONG_TYPE"),
    ("text", "WRONG_TYPE"),
    (3, "WRONG_TYPE"),
    ({}, "UNKNOWN_PAYLOAD"),
    ({"strData": "x"}, "UNKNOWN_PAYLOAD"),
    ({"jsonData": {}}, "UNKNOWN_PAYLOAD"),
    ({"data": {}}, "UNKNOWN_PAYLOAD"),
    ({"data": {"tftensor": {}}}, "UNKNOWN_PAYLOAD"),
    ({"data": {"ndarray": ONE, "tensor": {}}}, "UNKNOWN_PAYLOAD"),
    ({"data": {"ndarray": ONE}, "binData": b64(6)}, "UNKNOWN_PAYLOAD"),
    ({"data": [1]}, "WRONG_TYPE"),
    ({"data": None}, "WRONG_TYPE"),
    ({"data": {"ndarray": None}}, "WRONG_TYPE"),
    ({"data": {"ndarray": 3}}, "WRONG_TYPE"),
    ({"data": {"ndarray": []}}, "EMPTY"),
    ({"data": {"ndarray": [[]]}}, "EMPTY"),
    ({"data": {"ndarray": [[1, 2], [3]]}}, "WRONG_SHAPE"),
    ({"data": {"ndarray": ONE[0]}}, "WRONG_SHAPE"),
    ({"data": {"ndarray": [[1, 2, 3]]}}, "WRONG_SHAPE"),
    ({"data": {"ndarray": [[[[[0, 1]], [[0, 1]]]] * 3]}}, "WRONG_SHAPE"),
    ({"data": {"ndarray": [[[[[0, 1]], [[0, 1]], [[0, 1]]]] * 3]}}, "WRONG_SHAPE"),
    ({"data": {"ndarray": [["ab", "ab", "ab"]]}}, "WRONG_TYPE"),
    ({"data": {"ndarray": [[[[0], "1"], [[0], {"1": 0}], [[0], [0]]]]}}, "WRONG_TYPE"),
    (
        {"data": {"ndarray": [[[[[0, 1]], [[0, 1]]], [[[0, 1]], [[0, 1]]], [[[0, 1]], [[0, 1]]]]]}},
        "WRONG_SHAPE",
    ),
    ({"data": {"ndarray": ["1", "2"]}}, "WRONG_TYPE"),
    ({"data": {"ndarray": [1, None]}}, "WRONG_TYPE"),
    ({"data": {"ndarray": [True, False]}}, "WRONG_TYPE"),
    ({"data": {"ndarray": [{}]}}, "WRONG_TYPE"),
    ({"data": {"ndarray": [[[[float("nan")], [0]], [[0], [0]], [[0], [0]]]]}}, "NOT_FINITE"),
    ({"data": {"ndarray": [[[[1e300], [0]], [[0], [0]], [[0], [0]]]]}}, "NOT_FINITE"),
    ({"data": {"tensor": [1]}}, "WRONG_TYPE"),
    ({"data": {"tensor": {"values": [1]}}}, "WRONG_TYPE"),
    ({"data": {"tensor": {"shape": [1]}}}, "WRONG_TYPE"),
    ({"data": {"tensor": {"shape": ["1"], "values": [1]}}}, "WRONG_TYPE"),
    ({"data": {"tensor": {"shape": [-1, 2], "values": [1, 2]}}}, "WRONG_TYPE"),
    ({"data": {"tensor": {"shape": [1, *SHAPE], "values": []}}}, "EMPTY"),
    ({"data": {"tensor": {"shape": [1, *SHAPE], "values": [1, 2]}}}, "WRONG_SHAPE"),
    ({"data": {"tensor": {"shape": [0], "values": [1]}}}, "WRONG_SHAPE"),
    ({"data": {"tensor": {"shape": [1] * 40, "values": [1]}}}, "WRONG_SHAPE"),
    ({"binData": 3}, "WRONG_TYPE"),
    ({"binData": None}, "WRONG_TYPE"),
    ({"binData": ""}, "EMPTY"),
    ({"binData": "%%%%"}, "MALFORMED_BASE64"),
    ({"binData": "AAA"}, "MALFORMED_BASE64"),
    ({"binData": "ÄÖÜ="}, "MALFORMED_BASE64"),
    ({"binData": b64(7)}, "WRONG_SHAPE"),
    ({"binData": b64(6), "meta": {"tags": {"dtype": "float32"}}}, "WRONG_SHAPE"),
    ({"binData": b64(6), "meta": {"tags": {"dtype": "int4"}}}, "WRONG_TYPE"),
    ({"binData": b64(6), "meta": {"tags": {"dtype": ["uint8"]}}}, "WRONG_TYPE"),
    ({"binData": b64(6), "meta": {"tags": 3}}, "WRONG_TYPE"),
    ({"binData": b64(6), "meta": {"tags": {"shape": [1, 2, 3, 1]}}}, "WRONG_SHAPE"),
    ({"binData": b64(12), "meta": {"tags": {"shape": [1, *SHAPE]}}}, "WRONG_SHAPE"),
    ({"binData": b64(6), "meta": {"tags": {"shape": None}}}, "WRONG_SHAPE"),
    ({"binData": b64(6), "meta": {"tags": {"shape": "1,3,2,1"}}}, "WRONG_SHAPE"),
    ({"binData": NAN, "meta": {"tags": {"dtype": "float32"}}}, "NOT_FINITE"),
]


@pytest.mark.parametrize(("message", "reason"), MISTAKES)
def test_a_mistake_is_named_in_one_line(message: Any, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        payloads.from_json(message, SHAPE)
    assert caught.value.reason == reason
    assert 400 <= caught.value.status < 500
    assert "\n" not in str(caught.value)


def test_lists_deeper_than_numpy_goes_are_refused() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    with pytest.raises(RequestError):
        payloads.from_json({"data": {"ndarray": deep}}, SHAPE)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({}, "UNKNOWN_PAYLOAD"),
        ({"strData": "x"}, "UNKNOWN_PAYLOAD"),
        ({"data": {"names": ["a"]}}, "UNKNOWN_PAYLOAD"),
        ({"data": {"ndarray": []}}, "EMPTY"),
        ({"data": {"ndarray": ["a"]}}, "WRONG_TYPE"),
        ({"data": {"ndarray": [None]}}, "WRONG_TYPE"),
        ({"data": {"ndarray": [[1.0]]}}, "WRONG_SHAPE"),
        ({"data": {"tensor": {"shape": [1, *SHAPE], "values": ["NaN"] * 6}}}, "NOT_FINITE"),
        ({"data": {"tensor": {"shape": [2], "values": [1.0]}}}, "WRONG_SHAPE"),
        ({"binData": b64(5)}, "WRONG_SHAPE"),
        ({"binData": b64(6), "meta": {"tags": {"dtype": 3}}}, "WRONG_TYPE"),
        ({"binData": b64(6), "meta": {"tags": {"shape": [1, 2, 3, 1]}}}, "WRONG_SHAPE"),
        ({"binData": b64(6), "meta": {"tags": {"shape": 6}}}, "WRONG_SHAPE"),
    ],
)
def test_a_mistake_in_protobuf_is_named(message: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        proto_payloads.from_proto(proto(message), SHAPE)
    assert caught.value.reason == reason
