"""What stands before and after a model in ONNX is what `fededge.encoding` says."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fededge.documents import Feature, Label, Schema
from fededge.encoding import answers, encode
from fededge.errors import VariantError
from fededge.inference import load_model
from fededge.learning.frameworks import onnx_graph

pytestmark = pytest.mark.environment("worker")

SCHEMA = Schema(
    features=[
        Feature(name="wealth", dtype="float32", shape=[], log=50, mean=4, std=2),
        Feature(name="color", dtype="int64", shape=[], categories=["red", "green", "blue"]),
        Feature(name="heat", dtype="float32", shape=[], mean=20, std=5),
        Feature(name="plain", dtype="float32", shape=[]),
    ],
    label=Label(kind="none"),
)


def body(operator: str = "Identity", domain: str = "") -> onnx.ModelProto:
    node = helper.make_node(operator, [onnx_graph.ENCODED], [onnx_graph.RAW], domain=domain)
    places = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6])
        for name in (onnx_graph.ENCODED, onnx_graph.RAW)
    ]
    imports = [
        helper.make_opsetid("", onnx_graph.OPSET),
        *([helper.make_opsetid(domain, 1)] if domain else []),
    ]
    graph = helper.make_graph([node], "body", places[:1], places[1:])
    return helper.make_model(graph, opset_imports=imports)


def test_numbers_logarithms_and_categories_are_seen_alike() -> None:
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(-3, 7, 200) * rng.choice([-1, 1], 200)
    x = np.stack([sizes, rng.integers(0, 3, 200), rng.normal(20, 5, 200), rng.normal(size=200)], 1)
    x = np.concatenate([x, np.zeros((1, 4))]).astype(np.float32)
    found = load_model(onnx_graph.answering(body(), SCHEMA), "onnx-float32").predict(x)
    np.testing.assert_allclose(found, encode(SCHEMA, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "label",
    [
        Label(kind="class", classes=6),
        Label(kind="multi-label", classes=6),
        Label(kind="sequence", classes=2, shape=[3]),
        Label(kind="number", shape=[6], mean=[10.0] * 6, std=[2.0] * 6),
    ],
    ids=lambda label: label.kind,
)
def test_outputs_mean_alike(label: Label) -> None:
    schema = Schema(features=[Feature(name="a", dtype="float32", shape=[3, 2])], label=label)
    rows = onnx.ModelProto()
    rows.CopyFrom(body())
    if label.kind != "sequence":
        rows.graph.node[0].op_type = "Flatten"
    x = np.random.default_rng(0).normal(0, 4, (70, 3, 2)).astype(np.float32)
    raw = x if label.kind == "sequence" else x.reshape(70, 6)
    found = load_model(onnx_graph.answering(rows, schema), "onnx-float32").predict(x)
    np.testing.assert_allclose(found, answers(schema, raw), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (body("Answer", "acme"), "operators of acme, which are not ONNX's own"),
        (body("Answer"), "no valid ONNX model"),
    ],
    ids=["foreign", "unknown"],
)
def test_a_body_with_operators_of_others_is_refused(model: onnx.ModelProto, said: str) -> None:
    with pytest.raises(VariantError, match=said):
        onnx_graph.answering(model, SCHEMA)
