"""Inference requests of an enemy: answered, or refused by name with a status of the 400s."""

import base64
import json
from typing import Any

import numpy as np
import orjson
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from seldon_core.proto import prediction_pb2

from fededge import payloads
from fededge.errors import RequestError
from serving import proto_payloads
from tests.attacks.hostile import PIECES, VALUES, cases, changed, mutants, read_or_refused

pytestmark = pytest.mark.environment("serving")

SHAPE = (3, 2, 1)
X = np.ones((2, *SHAPE), np.float32)
RAW = base64.b64encode(X.tobytes()).decode()
REQUESTS: list[dict[str, Any]] = [
    {"data": {"ndarray": X.tolist()}},
    {"data": {"tensor": {"shape": list(X.shape), "values": X.ravel().tolist()}}},
    {"binData": RAW, "meta": {"tags": {"dtype": "float32", "shape": list(X.shape)}}},
    {"binData": base64.b64encode(bytes(12)).decode()},
]


def messages() -> list[bytes]:
    """The requests in protobuf."""
    lists, tensor, raw = (prediction_pb2.SeldonMessage() for _ in range(3))
    lists.data.ndarray.extend(X.tolist())
    tensor.data.tensor.shape.extend(X.shape)
    tensor.data.tensor.values.extend(X.ravel().tolist())
    raw.binData = X.tobytes()
    raw.meta.tags["dtype"].string_value = "float32"
    return [message.SerializeToString() for message in (lists, tensor, raw)]


def examples_or_refused(message: Any) -> None:
    read = (
        proto_payloads.from_proto if isinstance(message, prediction_pb2.SeldonMessage) else payloads.from_json
    )
    found = read_or_refused(lambda: read(message, SHAPE), RequestError)
    if found is not None:
        x, _ = found
        assert x.dtype == np.float32
        assert x.shape[1:] == SHAPE
        assert len(x)
        assert np.isfinite(x).all()


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_good_requests_are_read(request_: Any) -> None:
    assert payloads.from_json(request_, SHAPE)[0].shape == X.shape


@settings(max_examples=500)
@given(st.sampled_from(REQUESTS).flatmap(changed))
def test_changed_values_are_read_or_refused_by_name(message: Any) -> None:
    examples_or_refused(message)


@settings(max_examples=500)
@given(mutants([json.dumps(request).encode() for request in REQUESTS]))
def test_changed_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    for loads in (json.loads, orjson.loads):
        try:
            message = loads(body)
        except (ValueError, RecursionError):
            continue  # the server refuses what is no JSON
        examples_or_refused(message)


@settings(max_examples=500)
@given(mutants(messages()))
def test_changed_protobuf_is_read_or_refused_by_name(body: bytes) -> None:
    try:
        message = prediction_pb2.SeldonMessage.FromString(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return  # gRPC refuses what is no message
    examples_or_refused(message)


@pytest.mark.parametrize("value", [*VALUES, float("nan"), -(10**400)], ids=range(len(VALUES) + 2))
def test_a_hostile_value_anywhere_is_refused_by_name(value: Any) -> None:
    for message in (
        value,
        {"data": value},
        {"binData": value},
        {"data": {"ndarray": value}},
        {"data": {"ndarray": [[[[value]] * 2] * 3]}},
        {"data": {"ndarray": [value, *X.tolist()]}},
        {"data": {"tensor": value}},
        {"data": {"tensor": {"shape": value, "values": [1.0]}}},
        {"data": {"tensor": {"shape": [value], "values": [1.0]}}},
        {"data": {"tensor": {"shape": [1, 3, 2, 1], "values": value}}},
        {"data": {"tensor": {"shape": [1, 3, 2, 1], "values": [value] * 6}}},
        {"binData": RAW, "meta": value},
        {"binData": RAW, "meta": {"tags": value}},
        {"binData": RAW, "meta": {"tags": {"dtype": value}}},
        {"binData": RAW, "meta": {"tags": {"dtype": "float32", "shape": value}}},
    ):
        examples_or_refused(message)


@pytest.mark.parametrize("depth", [33, 65, 500, 900])
def test_deep_lists_are_refused_by_name(depth: int) -> None:
    deep: Any = 1.0
    for _ in range(depth):
        deep = [deep]
    examples_or_refused({"data": {"ndarray": deep}})
    examples_or_refused({"data": {"tensor": {"shape": deep, "values": [1.0]}}})
    message = prediction_pb2.SeldonMessage()
    inner = message.data.ndarray
    for _ in range(min(depth, 90)):
        inner = inner.values.add().list_value
    examples_or_refused(message)


def test_a_shape_that_claims_a_large_tensor_takes_no_memory() -> None:
    for shape in ([2**31, 3, 2, 1], [2**62, 4], [10**30], [0, 10**30], [1] * 5000):
        examples_or_refused({"data": {"tensor": {"shape": shape, "values": [1.0] * 6}}})


@pytest.mark.parametrize("piece", PIECES)
def test_pieces_that_break_parsers_are_refused_by_name(piece: bytes) -> None:
    text = piece.decode("latin1")
    examples_or_refused({"binData": text})
    examples_or_refused({"data": {"ndarray": [text]}})
    examples_or_refused({text: 1})


@cases("payloads")
def test_what_once_did_harm_is_refused_by_name(case: bytes) -> None:
    examples_or_refused(json.loads(case))
