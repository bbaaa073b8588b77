"""Payloads in protobuf, as gRPC brings them: see fededge.payloads."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.struct_pb2 import ListValue
from seldon_core.proto import prediction_pb2

from fededge import payloads, records
from fededge.documents import Schema


def from_proto(
    message: prediction_pb2.SeldonMessage, shape: payloads.Shape, schema: Schema | None = None
) -> tuple[np.ndarray, str]:
    """The examples in a protobuf request; as `payloads.from_json`."""
    kind = message.WhichOneof("data_oneof")
    if kind == "data":
        kind = message.data.WhichOneof("data_oneof")
    if kind == "binData":
        return payloads.from_bytes(message.binData, _tags(message.meta.tags), shape), kind
    if kind == "tensor":
        tensor = message.data.tensor
        values = np.array(tensor.values, dtype=np.float64)
        return payloads.examples(payloads.shaped(values, list(tensor.shape)), shape), kind
    if kind == "jsonData":
        return records.from_json_data(json_format.MessageToDict(message.jsonData), schema), kind
    if kind == "ndarray":
        names = list(message.data.names)
        if schema is not None and records.are_features(names, schema):
            return records.from_rows(names, json_format.MessageToDict(message.data.ndarray), schema), kind
        return payloads.examples(payloads.nested(_lists(message.data.ndarray), shape), shape), kind
    raise payloads.unknown([kind] if kind else [])


def to_proto(
    outputs: np.ndarray, kind: str, examples: np.ndarray | None = None, schema: Schema | None = None
) -> tuple[prediction_pb2.SeldonMessage, dict[str, Any]]:
    """As `payloads.to_json`, in protobuf."""
    if kind == "jsonData":
        return json_format.ParseDict(
            payloads.to_json(outputs, kind, examples, schema)[0], prediction_pb2.SeldonMessage()
        ), {}
    if kind == "binData":
        return prediction_pb2.SeldonMessage(binData=payloads.little_endian(outputs)), payloads.described(
            outputs
        )
    data = prediction_pb2.DefaultData(names=payloads.names_of(outputs, schema))
    if kind == "tensor":
        data.tensor.shape.extend(outputs.shape)
        data.tensor.values.extend(outputs.ravel().tolist())
    else:
        for row in outputs.tolist():
            data.ndarray.add_list().extend(row)
    return prediction_pb2.SeldonMessage(data=data), {}


def _tags(given: Mapping[str, Any]) -> dict[str, Any]:
    """What binData is said to be, from tags in protobuf."""
    tags: dict[str, Any] = {}
    if "dtype" in given:
        tags["dtype"] = given["dtype"].string_value
    if "shape" in given:
        tags["shape"] = [size.number_value for size in given["shape"].list_value.values]
    return tags


def _lists(value: ListValue) -> list[Any]:
    return [
        _lists(item.list_value) if item.HasField("list_value") else _scalar(item) for item in value.values
    ]


def _scalar(item: Any) -> Any:
    return item.number_value if item.HasField("number_value") else str(item.WhichOneof("kind"))
