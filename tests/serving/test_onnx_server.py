"""An endpoint answers with an ONNX variant, by names as well."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc

from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import VariantFile
from fededge.inference import load_model

pytestmark = pytest.mark.environment("serving")

FIRST = Path(__file__).resolve().parents[1] / "fixtures" / "first.onnx"
KIND = "onnx-float32"
X = np.random.default_rng(5).random((60, 4, 4, 1), np.float32)


@pytest.fixture(scope="module")
def onnx_server() -> Iterator[LocalEndpoint]:
    data = FIRST.read_bytes()
    variant = VariantFile(kind=KIND, url=str(FIRST), digest=storage.digest(data), bytes=len(data))
    yield local_endpoint.start("onnx", variant, 2)
    local_endpoint.stop("onnx")


def test_rest_and_grpc_answer_as_the_model_does(onnx_server: LocalEndpoint) -> None:
    expected = load_model(FIRST.read_bytes(), KIND).predict(X)
    body = {"data": {"tensor": {"shape": list(X.shape), "values": X.ravel().tolist()}}}
    answer = requests.post(f"{onnx_server.rest}/api/v1.0/predictions", json=body, timeout=20).json()
    assert answer["meta"]["tags"]["variant"] == KIND
    np.testing.assert_allclose(np.reshape(answer["data"]["tensor"]["values"], (60, 3)), expected, atol=1e-6)
    message = prediction_pb2.SeldonMessage(binData=X.tobytes())
    message.meta.tags["dtype"].string_value = "float32"
    with grpc.insecure_channel(onnx_server.grpc) as channel:
        said = prediction_pb2_grpc.SeldonStub(channel).Predict(message, timeout=20)
    np.testing.assert_allclose(np.frombuffer(said.binData, "<f4").reshape(60, 3), expected, atol=1e-6)


def test_metadata_and_answers_name_what_the_file_knows(onnx_server: LocalEndpoint) -> None:
    metadata = requests.get(f"{onnx_server.rest}/metadata", timeout=20).json()
    assert (metadata["platform"], metadata["inputs"][0]["shape"]) == ("onnx", [-1, 4, 4, 1])
    body = {"jsonData": [{"image": X[0].tolist()}]}
    answer = requests.post(f"{onnx_server.rest}/api/v1.0/predictions", json=body, timeout=20).json()
    (first,) = answer["jsonData"]
    assert set(first["probabilities"]) == {"a", "b", "c"}
    assert first["label"] == "abc"[load_model(FIRST.read_bytes(), KIND).predict(X[:1]).argmax()]
