"""Requests that name features, over JSON and protobuf, and answers that name classes."""

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from seldon_core.proto import prediction_pb2

from fededge import payloads
from fededge.documents import Feature, Label, Schema
from fededge.errors import RequestError
from serving import proto_payloads

pytestmark = pytest.mark.environment("serving")
STAFF = Schema(
    features=[
        Feature(name="age", dtype="float32", shape=[], unit="years", missing=40.0),
        Feature(name="job", dtype="int64", shape=[], categories=["cook", "pilot"]),
    ],
    label=Label(classes=2, names=["leaves", "stays"]),
)
OUTPUTS = np.array([[0.25, 0.75]], np.float32)


def read(message: dict[str, Any]) -> list[np.ndarray]:
    """What both transports read."""
    over_grpc = json_format.ParseDict(message, prediction_pb2.SeldonMessage())
    return [
        payloads.from_json(message, STAFF.shape, STAFF)[0],
        proto_payloads.from_proto(over_grpc, STAFF.shape, STAFF)[0],
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"jsonData": {"age": 41, "job": "pilot"}},
        {"jsonData": [{"job": "pilot", "age": "41"}]},
        {"data": {"names": ["job", "age"], "ndarray": [["pilot", 41]]}},
    ],
)
def test_features_by_name_are_read_in_any_order(message: dict[str, Any]) -> None:
    for found in read(message):
        np.testing.assert_array_equal(found, [[41.0, 1.0]])


def test_what_is_missing_is_filled_by_the_schemas_rule_or_refused() -> None:
    for found in read({"jsonData": [{"age": None, "job": "cook"}, {"job": "cook"}]}):
        np.testing.assert_array_equal(found, [[40.0, 0.0], [40.0, 0.0]])
    with pytest.raises(RequestError, match="job is missing") as refused:
        read({"jsonData": {"age": 3}})
    assert refused.value.reason == "MISSING_FEATURE"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"jsonData": {"age": 1, "job": "clown"}}, "UNKNOWN_CATEGORY"),
        ({"jsonData": {"age": 1, "job": "cook", "pay": 1}}, "UNKNOWN_FEATURE"),
        ({"jsonData": {"age": "old", "job": "cook"}}, "WRONG_TYPE"),
        ({"jsonData": {"age": 1e300, "job": "cook"}}, "NOT_FINITE"),
        ({"jsonData": []}, "EMPTY"),
        ({"jsonData": [3]}, "WRONG_TYPE"),
        ({"jsonData": "age"}, "WRONG_TYPE"),
        ({"data": {"names": ["age", "job"], "ndarray": [[1]]}}, "WRONG_SHAPE"),
        ({"data": {"names": ["age", "pay"], "ndarray": [[1, 2]]}}, "UNKNOWN_FEATURE"),
    ],
)
def test_each_mistake_has_its_name(message: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(message)
    assert refused.value.reason == reason


def test_names_that_are_no_features_say_nothing() -> None:
    for found in read({"data": {"names": ["t:0", "t:1"], "ndarray": [[41, 1]]}}):
        np.testing.assert_array_equal(found, [[41.0, 1.0]])


def test_answers_name_the_classes() -> None:
    examples = np.zeros((1, 2), np.float32)
    told, _ = payloads.to_json(OUTPUTS, "jsonData", examples, STAFF)
    assert told == {"jsonData": [{"label": "stays", "probabilities": {"leaves": 0.25, "stays": 0.75}}]}
    over_grpc, _ = proto_payloads.to_proto(OUTPUTS, "jsonData", examples, STAFF)
    assert json.loads(json_format.MessageToJson(over_grpc)) == told
    assert payloads.to_json(OUTPUTS, "ndarray", examples, STAFF)[0]["data"]["names"] == ["leaves", "stays"]


def test_a_model_that_tells_no_features_takes_none_by_name() -> None:
    with pytest.raises(RequestError, match="does not tell the names of its features"):
        payloads.from_json({"jsonData": {"age": 1}}, (2,))
