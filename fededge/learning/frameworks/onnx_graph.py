"""ONNX models of what frameworks learned: the encoding of examples before it, the meaning of its outputs behind it.

`fededge.encoding` says what both are; here they are operators of ONNX, as in `keras.layers` they are layers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fededge import model_files
from fededge.documents import Schema
from fededge.encoding import columns
from fededge.errors import VariantError, shown

OPSET, IR_VERSION = 20, 9
"""Of ONNX 1.15 (2023): the newest that PyTorch's exporter of TorchScript writes. ONNX Runtime reads it from 1.17 on."""
ENCODED, RAW = "encoded", "raw"
"""Names of the only input and the only output of a model's body."""
ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
"""Operators by Keras's names of activations."""


def answering(body: onnx.ModelProto, schema: Schema) -> bytes:
    """The file of the model that answers with `body`: examples float32 [n, *shape] to float32 [n, schema.outputs].

    Args:
        body: ENCODED float32 [n, *schema.encoded_shape] to RAW; its names begin with no `fededge/`.
        schema: of the examples; kept in the file's metadata.

    Raises:
        VariantError: `body` is no such model, or has operators that are not ONNX's own.
    """
    before, after = _Graph("fededge/encode"), _Graph("fededge/answer")
    before.add("Identity", _encode(before, "examples", schema), output=ENCODED)
    after.add("Identity", _answer(after, RAW, schema), output="answers")
    graph = helper.make_graph(
        [*before.nodes, *body.graph.node, *after.nodes],
        "fededge",
        [helper.make_tensor_value_info("examples", TensorProto.FLOAT, ["n", *schema.shape])],
        [helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["n", schema.outputs])],
        [*before.constants, *body.graph.initializer, *after.constants],
    )
    made = _model(graph)
    helper.set_model_props(made, {model_files.KEY: schema.to_bytes().decode()})
    if foreign := sorted({each.domain for each in body.opset_import} - {""}):
        raise VariantError(
            f"the model has operators of {', '.join(map(shown, foreign))}, which are not ONNX's own, so it has no ONNX "
            "variant"
        )
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VariantError(f"the model makes no valid ONNX model: {shown(str(error), 200)}") from error
    return made.SerializeToString(deterministic=True)


def dense(schema: Schema, layers: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> onnx.ModelProto:
    """The body of a model of dense layers.

    Args:
        schema: of the examples; encoded ones are flattened.
        layers: kernel float32 [in, out], bias float32 [out] and activation by Keras's name of each.
    """
    graph = _Graph("dense")
    x = graph.add("Flatten", ENCODED)
    for kernel, bias, activation in layers:
        x = graph.add("Gemm", x, kernel, bias)
        if activation in ACTIVATIONS:
            x = graph.add(ACTIVATIONS[activation], x)
    graph.add("Identity", x, output=RAW)
    given = helper.make_tensor_value_info(ENCODED, TensorProto.FLOAT, ["n", *schema.encoded_shape])
    raw = helper.make_tensor_value_info(RAW, TensorProto.FLOAT, ["n", layers[-1][1].size])
    return _model(helper.make_graph(graph.nodes, "dense", [given], [raw], graph.constants))


class _Graph:
    """Operators, one after another, and the constants that they are given; names begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *given: str | np.ndarray, output: str = "", **attributes: Any) -> str:
        """Add an operator on tensors by name, or on constants; the name of its output."""
        name = f"{self._prefix}/{len(self.nodes)}"
        inputs = [each if isinstance(each, str) else self._constant(each) for each in given]
        self.nodes.append(helper.make_node(operator, inputs, [output or name], name=name, **attributes))
        return output or name

    def _constant(self, value: np.ndarray) -> str:
        name = f"{self._prefix}/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, producer_name="fededge", opset_imports=imports, ir_version=IR_VERSION)


def _encode(graph: _Graph, x: str, schema: Schema) -> str:
    """Examples float32 [n, *shape] to [n, *encoded_shape]: see `fededge.encoding.encode`."""
    how = columns(schema)
    if how is None:
        return x
    flat = graph.add("Flatten", x)
    if not np.array_equal(how.source, np.arange(int(np.prod(schema.shape)))):
        flat = graph.add("Gather", flat, how.source, axis=1)
    encoded = flat
    if how.log.any():
        unit = np.where(how.log > 0, how.log, 1).astype(np.float32)
        size = graph.add("Add", graph.add("Div", graph.add("Abs", flat), unit), np.ones(1, np.float32))
        logarithm = graph.add("Mul", graph.add("Sign", flat), graph.add("Log", size))
        encoded = graph.add("Where", how.log > 0, logarithm, flat)
    encoded = graph.add("Div", graph.add("Sub", encoded, how.mean), how.std)
    if how.categories.any():
        hot = graph.add("Cast", graph.add("Equal", flat, how.code), to=TensorProto.FLOAT)
        encoded = graph.add("Where", how.categories, hot, encoded)
    return graph.add("Reshape", encoded, np.array([-1, *schema.encoded_shape], np.int64))


def _answer(graph: _Graph, raw: str, schema: Schema) -> str:
    """Raw outputs [n, ...] to [n, schema.outputs]: see `fededge.encoding.answers`."""
    label = schema.label
    if label.kind in ("class", "sequence"):
        raw = graph.add("Softmax", raw, axis=-1)
    elif label.kind == "multi-label":
        raw = graph.add("Sigmoid", raw)
    made = graph.add("Reshape", raw, np.array([-1, schema.outputs], np.int64))
    if label.mean:
        scaled = graph.add("Mul", made, np.array(label.std, np.float32))
        made = graph.add("Add", scaled, np.array(label.mean, np.float32))
    return made
