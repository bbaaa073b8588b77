"""A traced Keras model, run anew operation by operation, each in a form that LiteRT can train.

What is traced is the model's own graph with a batch of a known size, so that layers of the user's own are met, too.
Operations of which LiteRT has value and gradient stay as they are (PLAIN), some get another form (forms.FORMS), and
whatever is on neither list is refused by the name of its layer.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from fededge.learning.frameworks.keras.litert.forms import FORMS, Context, Refused

Value = Any
"""np.ndarray where it is constant, tf.Tensor, or _Variable."""

_PLAIN = """
Abs Add AddN AddV2 All Any ArgMax ArgMin BatchMatMulV2 BatchToSpaceND BiasAdd BroadcastTo Cast Ceil ConcatV2 Cos Cumsum
DivNoNan Equal Exp ExpandDims Fill Floor FloorDiv FloorMod GatherV2 Greater GreaterEqual Identity IdentityN Less LessEqual
Log LogicalAnd LogicalNot LogicalOr LogSoftmax Max Maximum Min Minimum Mul Neg NotEqual OneHot OnesLike Pack Pad PadV2 Pow
PreventGradient RealDiv Reshape ReverseV2 Round Rsqrt Select SelectV2 Sigmoid Sign Sin Slice Softmax SpaceToBatchND Split
SplitV Sqrt Square SquaredDifference Squeeze StopGradient Sub Sum Tanh Tile Transpose Unpack ZerosLike
"""
PLAIN = frozenset(_PLAIN.split())
"""Operations of which LiteRT has the value, and what their gradient is made of."""
LOOPS = ("Case", "For", "If", "StatelessCase", "StatelessIf", "StatelessWhile", "TensorList", "While")
"""How the names of operations begin that have graphs of their own, or go with them."""
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
SEED = object()
"""Stands for what random numbers are drawn from: nothing but masks of dropout, which are fed, may need it."""
EMPTY = frozenset({"Assert", "NoOp"})
"""Operations that give nothing."""
ASSIGNS = {"AssignVariableOp": 0.0, "AssignAddVariableOp": 1.0, "AssignSubVariableOp": -1.0}
"""Operations that change a variable, and what they add a number times; 0 puts it in place of the old one."""


@dataclass
class _Variable:
    """What a variable holds, and its place among those that travel; None where it does not."""

    value: Value
    place: int | None


class Replay:
    """Runs a traced function's graph within the graph that is being traced now.

    Args:
        function: traced, with inputs of known shapes.
        feeds: what stands for a tensor of the traced graph, by its name.
        travelling: variables that travel, and what stands for each.
        others: variables that are the same in each process.
        layers: names of the model's layers.
        weight: float32 [b], 1 for each example and 0 for what fills up the batch; None where nothing does.

    Attributes:
        assigned: new values of variables by their place among those that travel.
    """

    def __init__(
        self,
        function: Any,
        feeds: Mapping[str, tf.Tensor],
        travelling: Sequence[tuple[tf.Variable, tf.Tensor]],
        others: Sequence[tf.Variable],
        layers: frozenset[str],
        weight: tf.Tensor | None,
    ) -> None:
        self._graph = function.graph
        self._feeds: dict[str, Value] = dict(feeds)
        self._layers = layers
        self._weight = weight
        self._learned = {value.ref() for _, value in travelling}
        self.assigned: dict[int, tf.Tensor] = {}
        variables = {id(v.handle): _Variable(value, place) for place, (v, value) in enumerate(travelling)}
        with tf.init_scope():
            variables = {id(v.handle): _Variable(v.numpy(), None) for v in others} | variables
        for outside, inside in self._graph.captures:
            if outside.dtype != tf.resource:
                self._feeds[inside.name] = outside.numpy()
            elif id(outside) in variables:
                self._feeds[inside.name] = variables[id(outside)]
            else:
                raise Refused("the model uses a variable or a table that it does not show as its own")

    def run(self, wanted: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """What the tensors `wanted` of the traced graph are.

        Raises:
            Refused: there is an operation that LiteRT cannot train.
        """
        return [tf.convert_to_tensor(value) for value in self._run(self._graph, self._feeds, wanted)]

    def _run(
        self, graph: Any, feeds: Mapping[str, Value], wanted: Sequence[tf.Tensor], layer: str | None = None
    ) -> list[Value]:
        """The values of `wanted` in `graph`, which is that of a call in `layer`."""
        values = dict(feeds)
        for op in _needed(graph, feeds, wanted):
            if op.type in EMPTY:
                continue
            inputs = [values[tensor.name] for tensor in op.inputs]
            with tf.name_scope(op.name + "/"):
                made = self._made(op, inputs, self._layer(op) or layer)
            values |= {tensor.name: value for tensor, value in zip(op.outputs, made, strict=True)}
        return [values[tensor.name] for tensor in wanted]

    def _made(self, op: Any, inputs: list[Value], layer: str | None) -> Sequence[Value]:
        shown = f"layer {layer}" if layer else "the loss"
        if op.type == "Const":
            return (tf.make_ndarray(op.get_attr("value")),)
        if op.type == "Placeholder" or any(value is SEED for value in inputs):
            if op.type.startswith("StatelessRandom"):
                raise Refused(f"{shown} draws random numbers, which LiteRT does for dropout alone")
            return [SEED] * len(op.outputs)
        if op.type in CALLS:
            inside = op.graph._get_function(op.get_attr("f").name).graph
            feeds = {tensor.name: value for tensor, value in zip(inside.inputs, inputs, strict=True)}
            return self._run(inside, feeds, inside.outputs, layer)
        if op.type in ASSIGNS:
            self._assign(shown, ASSIGNS[op.type], *inputs)
            return ()
        if op.type == "ReadVariableOp":
            return (inputs[0].value,)
        if op.type.startswith(LOOPS):
            raise Refused(
                f"{shown} has a loop or a branch, which LiteRT does not train: unroll it, if it can be"
            )
        inputs = [value.value if isinstance(value, _Variable) else value for value in inputs]
        if not any(isinstance(value, tf.Tensor) for value in inputs):
            with tf.init_scope():
                return [value.numpy() for value in _same(op, inputs)]
        learned = any(isinstance(value, tf.Tensor) and value.ref() in self._learned for value in inputs)
        if form := FORMS.get(op.type):
            made = form(Context(op, shown, self._weight, self._learned), *inputs)
            made = list(made) if isinstance(made, tuple) else [made]
        elif op.type in PLAIN:
            made = _same(op, inputs)
        else:
            raise Refused(f"{shown} needs {op.type}, which LiteRT does not train")
        if learned:
            self._learned.update(value.ref() for value in made if isinstance(value, tf.Tensor))
        return made

    def _layer(self, op: Any) -> str | None:
        """The name of the innermost layer of an operation; None where it is in none."""
        return next((part for part in reversed(op.name.split("/")) if part in self._layers), None)

    def _assign(self, shown: str, factor: float, variable: _Variable, value: Value) -> None:
        if variable.place is None:
            raise Refused(f"{shown} changes a variable that does not travel")
        variable.value = variable.value + factor * value if factor else value
        self.assigned[variable.place] = variable.value


def _needed(graph: Any, feeds: Mapping[str, Value], wanted: Sequence[tf.Tensor]) -> list[Any]:
    """The operations from which `wanted` and assignments follow, in their order."""
    operations = graph.get_operations()
    left = [tensor.op for tensor in wanted if tensor.name not in feeds]
    left += [op for op in operations if op.type in ASSIGNS]
    found: set[Any] = set()
    while left:
        op = left.pop()
        if op not in found:
            found.add(op)
            left += [tensor.op for tensor in op.inputs if tensor.name not in feeds]
    return [op for op in operations if op in found]


def _same(op: Any, inputs: Sequence[Value]) -> Sequence[tf.Tensor]:
    """The outputs of the same operation on other inputs; some parameters of tf.raw_ops have names of their own."""
    function, left = getattr(tf.raw_ops, op.type), list(inputs)
    names = [name for name in inspect.signature(function).parameters if name != "name"]
    takes, inferred = op.op_def.input_arg, set()
    for argument in takes:
        inferred |= {argument.type_attr, argument.number_attr, argument.type_list_attr}
    attributes = [attribute.name for attribute in op.op_def.attr if attribute.name not in inferred]
    known = {*attributes, *(argument.name for argument in takes)}
    renamed = iter([name for name in names if name not in known])
    arguments: dict[str, Any] = {}
    for argument in takes:
        several, count = argument.number_attr or argument.type_list_attr, 1
        if several:
            size = op.get_attr(several)
            count = size if argument.number_attr else len(size)
        given, left = left[:count], left[count:]
        name = argument.name if argument.name in names else next(renamed)
        arguments[name] = given if several else given[0]
    for name in attributes:
        arguments[name if name in names else next(renamed)] = op.get_attr(name)
    made = function(**arguments)
    return list(made) if isinstance(made, list | tuple) else [made]
