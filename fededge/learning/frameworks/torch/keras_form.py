"""A PyTorch module as the Keras model that gives the same outputs, out of which LiteRT variants are built.

The module is traced (torch.fx): each layer and operation that it calls becomes a Keras layer. Keras computes images with
the channels last, PyTorch with the channels first: what lies between is permuted.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import fx, nn

from fededge.documents import Schema
from fededge.errors import VariantError, shown
from fededge.learning.frameworks.torch.layers import ChannelsFirst

keras = tf.keras.layers
KNOWN = (
    "Linear, Conv2d, MaxPool2d, AvgPool2d, BatchNorm1d, BatchNorm2d, Flatten, ReLU, Tanh, Sigmoid, Dropout, Identity, "
    "ChannelsFirst and +"
)
OPERATIONS: dict[Any, type[nn.Module]] = {
    torch.relu: nn.ReLU,
    nn.functional.relu: nn.ReLU,
    "relu": nn.ReLU,
    torch.tanh: nn.Tanh,
    nn.functional.tanh: nn.Tanh,
    "tanh": nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
    nn.functional.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    nn.functional.dropout: nn.Identity,
}
"""Functions and methods of one tensor, by the layer that does the same."""
FLATTEN = (torch.flatten, "flatten")
ADD = (operator.add, operator.iadd, torch.add, "add")


def body(module: nn.Module, schema: Schema) -> tf.keras.Model:
    """Encoded examples [b, *schema.encoded_shape] to the raw outputs of `module`.

    Raises:
        VariantError: the module does what has no form in Keras here.
    """
    encoded = tf.keras.Input(schema.encoded_shape)
    form = _Form()
    made = tf.keras.Model(encoded, form.traced(module.eval(), _Value(encoded)).as_in_torch())
    for weights, layer in form.weights:
        layer.set_weights(weights)
    return made


@dataclass(frozen=True)
class _Value:
    """A tensor of the Keras model; with `images` the channels are last here, where PyTorch has them first."""

    x: tf.Tensor
    images: bool = False

    def as_in_torch(self) -> tf.Tensor:
        """With the dimensions in PyTorch's order."""
        return keras.Permute((3, 1, 2))(self.x) if self.images else self.x

    def as_images(self) -> "_Value":
        """With the channels last, where PyTorch has images."""
        return self if self.images else _Value(keras.Permute((2, 3, 1))(self.x), images=True)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one operation."""
        return isinstance(m, ChannelsFirst) or super().is_leaf_module(m, module_qualified_name)


class _Form:
    """The Keras layers so far, of which `weights` are set when the model is whole."""

    def __init__(self) -> None:
        self.weights: list[tuple[list[np.ndarray], tf.keras.layers.Layer]] = []
        self._layers: dict[type[nn.Module], Callable[[_Value, Any], _Value]] = {
            ChannelsFirst: self._channels_first,
            nn.Linear: self._linear,
            nn.Conv2d: self._convolution,
            nn.MaxPool2d: lambda value, layer: self._pool(value, layer, keras.MaxPool2D),
            nn.AvgPool2d: lambda value, layer: self._pool(value, layer, keras.AveragePooling2D),
            nn.BatchNorm1d: self._normalization,
            nn.BatchNorm2d: self._normalization,
            nn.Flatten: self._flatten,
            nn.ReLU: lambda value, _: self._then(value, keras.ReLU()),
            nn.Tanh: lambda value, _: self._then(value, keras.Activation("tanh")),
            nn.Sigmoid: lambda value, _: self._then(value, keras.Activation("sigmoid")),
            nn.Dropout: lambda value, _: value,
            nn.Dropout2d: lambda value, _: value,
            nn.Identity: lambda value, _: value,
        }

    def traced(self, module: nn.Module, given: _Value) -> _Value:
        """What `module` makes of `given`."""
        module = nn.Sequential(module)  # which is never one operation itself
        try:
            graph = _Tracer().trace(module)
        except Exception as error:  # the user's module may do anything
            raise VariantError(
                f"the model cannot be traced, so it has no LiteRT variant: {shown(str(error), 200)}. Use no control flow "
                "that depends on numbers"
            ) from error
        values: dict[fx.Node, _Value] = {}
        layers = dict(module.named_modules())
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = given
            elif node.op == "output":
                return values[node.args[0]]
            else:
                values[node] = self._value(node, [values.get(each, each) for each in node.args], layers)
        raise VariantError("the model gives no output, so it has no LiteRT variant")

    def _value(self, node: fx.Node, arguments: list[Any], layers: dict[str, nn.Module]) -> _Value:
        """What one call of a layer, function or method makes."""
        value, *rest = arguments or [None]
        if node.op == "call_module" and isinstance(value, _Value):
            return self._layer(value, layers[str(node.target)])
        if isinstance(value, _Value):
            if node.target in OPERATIONS:
                return self._layer(value, OPERATIONS[node.target]())
            if node.target in FLATTEN:
                return self._flatten(value, nn.Flatten(*(rest or [node.kwargs.get("start_dim", 0)])))
            if node.target in ADD and rest and isinstance(rest[0], _Value):
                return self._sum(value, rest[0])
            if node.target == "permute" and rest in ([0, 3, 1, 2], [(0, 3, 1, 2)]):
                return self._channels_first(value, None)
        raise VariantError(
            f"{shown(str(getattr(node.target, '__name__', node.target)))} has no Keras form here, so the model has no "
            f"LiteRT variant: use {KNOWN}"
        )

    def _layer(self, value: _Value, layer: nn.Module) -> _Value:
        translate = self._layers.get(type(layer))
        if translate is None:
            raise VariantError(
                f"the layer {type(layer).__name__} has no Keras form here, so the model has no LiteRT variant: use "
                f"{KNOWN}"
            )
        return translate(value, layer)

    def _then(self, value: _Value, layer: tf.keras.layers.Layer, *weights: torch.Tensor | None) -> _Value:
        made = replace(value, x=layer(value.x))
        arrays = [weight.detach().cpu().numpy() for weight in weights if weight is not None]
        if arrays:
            self.weights.append((arrays, layer))
        return made

    def _sum(self, one: _Value, other: _Value) -> _Value:
        if one.images != other.images:
            one, other = one.as_images(), other.as_images()
        return replace(one, x=keras.Add()([one.x, other.x]))

    def _channels_first(self, value: _Value, _: Any) -> _Value:
        if value.images:
            raise VariantError(
                "the model puts the channels first twice, so it has no LiteRT variant: once is enough"
            )
        return replace(value, images=True)

    def _linear(self, value: _Value, layer: nn.Linear) -> _Value:
        if value.images:
            raise VariantError("a Linear layer follows images: put torch.nn.Flatten between")
        dense = keras.Dense(layer.out_features, use_bias=layer.bias is not None)
        return self._then(value, dense, layer.weight.T, layer.bias)

    def _convolution(self, value: _Value, layer: nn.Conv2d) -> _Value:
        if layer.groups != 1 or layer.padding_mode != "zeros":
            raise VariantError(
                "a Conv2d with groups or a padding of its own has no LiteRT variant: use a plain one"
            )
        value, padding = value.as_images(), layer.padding
        if not isinstance(padding, str) and any(padding):
            value = self._then(value, keras.ZeroPadding2D(((padding[0],) * 2, (padding[1],) * 2)))
        convolution = keras.Conv2D(
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            "same" if padding == "same" else "valid",
            dilation_rate=layer.dilation,
            use_bias=layer.bias is not None,
        )
        return self._then(value, convolution, layer.weight.permute(2, 3, 1, 0), layer.bias)

    def _pool(self, value: _Value, layer: Any, kind: type[tf.keras.layers.Layer]) -> _Value:
        if layer.padding not in (0, (0, 0)) or layer.ceil_mode or getattr(layer, "dilation", 1) != 1:
            raise VariantError(
                f"a {type(layer).__name__} with padding, dilation or ceil_mode has no LiteRT variant"
            )
        return self._then(value.as_images(), kind(layer.kernel_size, layer.stride))

    def _normalization(self, value: _Value, layer: Any) -> _Value:
        if layer.running_mean is None:
            raise VariantError("a BatchNorm without running statistics has no LiteRT variant: track them")
        if len(value.x.shape) == 4:
            value = value.as_images()
        normal = keras.BatchNormalization(epsilon=layer.eps, center=layer.affine, scale=layer.affine)
        return self._then(value, normal, layer.weight, layer.bias, layer.running_mean, layer.running_var)

    def _flatten(self, value: _Value, layer: nn.Flatten) -> _Value:
        if layer.start_dim != 1 or layer.end_dim != -1:
            raise VariantError(
                "a Flatten of some dimensions only has no LiteRT variant: flatten all but the first"
            )
        return self._then(_Value(value.as_in_torch()), keras.Flatten())
