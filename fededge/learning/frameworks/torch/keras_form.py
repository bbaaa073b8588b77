"""A PyTorch line of layers as the Keras model that gives the same outputs, out of which LiteRT variants are built.

Keras computes images with the channels last, PyTorch with the channels first: what lies between is permuted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from torch import nn

from fededge.documents import Schema
from fededge.errors import VariantError
from fededge.learning.frameworks.torch.layers import ChannelsFirst

keras = tf.keras.layers
KNOWN = (
    "Linear, Conv2d, MaxPool2d, AvgPool2d, BatchNorm1d, BatchNorm2d, Flatten, ReLU, Tanh, Sigmoid, Dropout, Identity "
    "and fededge.learning.frameworks.torch.layers.ChannelsFirst"
)


def body(module: nn.Module, schema: Schema) -> tf.keras.Model:
    """Encoded examples [b, *schema.encoded_shape] to the raw outputs of `module`, which is a Sequential.

    Raises:
        VariantError: the module is something else, or holds a layer that has no form in Keras here.
    """
    encoded = tf.keras.Input(schema.encoded_shape)
    line = _Line(encoded)
    for layer in _flat(module):
        line.add(layer)
    made = tf.keras.Model(encoded, line.outputs())
    for weights, target in line.weights:
        target.set_weights(weights)
    return made


def _flat(module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, nn.Sequential):
        raise VariantError(
            f"the model is a {type(module).__name__}, which has no LiteRT variant: make it a torch.nn.Sequential "
            f"of {KNOWN}"
        )
    return [
        inner for layer in module for inner in (_flat(layer) if isinstance(layer, nn.Sequential) else [layer])
    ]


class _Line:
    """The Keras layers so far. `images` says that PyTorch has the channels first where Keras has them last."""

    def __init__(self, encoded: tf.Tensor) -> None:
        self._x = encoded
        self._images = False
        self.weights: list[tuple[list[np.ndarray], tf.keras.layers.Layer]] = []

    def add(self, layer: nn.Module) -> None:
        """Put the Keras form of `layer` behind the others."""
        if isinstance(layer, nn.Dropout | nn.Identity):
            return
        for kind, translate in self._translations.items():
            if type(layer) is kind:
                translate(layer)
                return
        raise VariantError(
            f"the layer {type(layer).__name__} has no Keras form here, so the model has no LiteRT variant: use {KNOWN}"
        )

    def outputs(self) -> tf.Tensor:
        """As PyTorch gives them."""
        if self._images:
            self._x = keras.Permute((3, 1, 2))(self._x)
        return self._x

    @property
    def _translations(self) -> dict[type[nn.Module], Callable[[Any], None]]:
        return {
            ChannelsFirst: self._channels_first,
            nn.Linear: self._linear,
            nn.Conv2d: self._convolution,
            nn.MaxPool2d: lambda layer: self._pool(layer, keras.MaxPool2D),
            nn.AvgPool2d: lambda layer: self._pool(layer, keras.AveragePooling2D),
            nn.BatchNorm1d: self._normalization,
            nn.BatchNorm2d: self._normalization,
            nn.Flatten: self._flatten,
            nn.ReLU: lambda _: self._then(keras.ReLU()),
            nn.Tanh: lambda _: self._then(keras.Activation("tanh")),
            nn.Sigmoid: lambda _: self._then(keras.Activation("sigmoid")),
        }

    def _then(self, layer: tf.keras.layers.Layer, *weights: torch.Tensor | None) -> None:
        self._x = layer(self._x)
        arrays = [weight.detach().cpu().numpy() for weight in weights if weight is not None]
        if arrays:
            self.weights.append((arrays, layer))

    def _channels_first(self, _: nn.Module) -> None:
        if self._images:
            raise VariantError("ChannelsFirst stands twice in the model: once is enough")
        self._images = True

    def _linear(self, layer: nn.Linear) -> None:
        if self._images:
            raise VariantError("a Linear layer follows images: put torch.nn.Flatten between")
        dense = keras.Dense(layer.out_features, use_bias=layer.bias is not None)
        self._then(dense, layer.weight.T, layer.bias)

    def _as_images(self) -> None:
        """Channels last from here on, where PyTorch's own images came without ChannelsFirst."""
        if not self._images:
            self._x, self._images = keras.Permute((2, 3, 1))(self._x), True

    def _convolution(self, layer: nn.Conv2d) -> None:
        if layer.groups != 1 or layer.padding_mode != "zeros":
            raise VariantError(
                "a Conv2d with groups or a padding of its own has no LiteRT variant: use a plain one"
            )
        self._as_images()
        padding: Any = layer.padding
        if not isinstance(padding, str) and any(padding):
            self._then(keras.ZeroPadding2D(((padding[0],) * 2, (padding[1],) * 2)))
        convolution = keras.Conv2D(
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            "same" if padding == "same" else "valid",
            dilation_rate=layer.dilation,
            use_bias=layer.bias is not None,
        )
        self._then(convolution, layer.weight.permute(2, 3, 1, 0), layer.bias)

    def _pool(self, layer: Any, kind: type[tf.keras.layers.Layer]) -> None:
        if layer.padding not in (0, (0, 0)) or layer.ceil_mode or getattr(layer, "dilation", 1) != 1:
            raise VariantError(
                f"a {type(layer).__name__} with padding, dilation or ceil_mode has no LiteRT variant"
            )
        self._as_images()
        self._then(kind(layer.kernel_size, layer.stride))

    def _normalization(self, layer: Any) -> None:
        if layer.running_mean is None:
            raise VariantError("a BatchNorm without running statistics has no LiteRT variant: track them")
        normal = keras.BatchNormalization(epsilon=layer.eps, center=layer.affine, scale=layer.affine)
        self._then(normal, layer.weight, layer.bias, layer.running_mean, layer.running_var)

    def _flatten(self, layer: nn.Flatten) -> None:
        if layer.start_dim != 1 or layer.end_dim != -1:
            raise VariantError("a Flatten of some dimensions only has no LiteRT variant: flatten all")
        self._x, self._images = self.outputs(), False
        self._then(keras.Flatten())
