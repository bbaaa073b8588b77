"""The form in which an operation of TensorFlow is trained on LiteRT, by the type of the operation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fededge.learning.frameworks.keras.litert import operations
from fededge.learning.frameworks.keras.litert.convolution import conv2d
from fededge.learning.frameworks.keras.litert.products import einsum, matmul
from fededge.learning.frameworks.keras.litert.windows import Windows, axis

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
"""Of SELU: Guenter Klambauer, Thomas Unterthiner, Andreas Mayr and Sepp Hochreiter 2017, Self-Normalizing Neural
Networks, section 2."""


class Refused(Exception):
    """The model cannot be trained on LiteRT; the text says why, for people."""


@dataclass(frozen=True)
class Context:
    """An operation of the traced graph.

    Attributes:
        op: with its attributes.
        layer: that it belongs to, for people.
        weight: float32 [b], 1 for each example and 0 for what fills up the batch; None where nothing does.
        learned: references of the tensors that depend on weights.
    """

    op: Any
    layer: str
    weight: tf.Tensor | None
    learned: set[Any]

    def attribute(self, name: str) -> Any:
        """Of the operation; text as str."""
        value = self.op.get_attr(name)
        return value.decode() if isinstance(value, bytes) else value

    def among(self, x: tf.Tensor) -> tf.Tensor | None:
        """The weights of the examples along the first axis of `x`; None where there are others."""
        return self.weight if self.weight is not None and x.shape[0] == self.weight.shape[0] else None

    def refusal(self, what: str) -> Refused:
        """That the layer's `what` cannot be trained."""
        return Refused(f"{self.layer} has {what}, which LiteRT does not train")

    def windows(self, x: tf.Tensor, taps: tuple[int, int]) -> Windows:
        """Of a convolution or pool over x [b, h, w, c].

        Raises:
            Refused: channels come first, or the padding is a list.
        """
        if self.attribute("data_format") != "NHWC" or self.attribute("padding") not in ("SAME", "VALID"):
            raise self.refusal("channels first, or an explicit padding")
        names = [attribute.name for attribute in self.op.op_def.attr]
        dilations = self.attribute("dilations") if "dilations" in names else [1] * 4
        strides, padding = self.attribute("strides"), self.attribute("padding")
        rows, columns = (
            axis(x.shape[at], taps[at - 1], strides[at], dilations[at], padding) for at in (1, 2)
        )
        return Windows(rows, columns)


def _conv2d(context: Context, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    learned = isinstance(x, tf.Tensor) and x.ref() in context.learned
    windows, groups = context.windows(x, tuple(kernel.shape[:2])), x.shape[3] // kernel.shape[2]
    if groups == 1:
        return conv2d(x, kernel, windows, learned)
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([conv2d(part, its, windows, learned) for part, its in parts], -1)


def _depthwise(context: Context, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return operations.depthwise(x, kernel, context.windows(x, tuple(kernel.shape[:2])))


def _max_pool(context: Context, x: tf.Tensor) -> tf.Tensor:
    return operations.max_pool(x, context.windows(x, tuple(context.attribute("ksize")[1:3])))


def _average_pool(context: Context, x: tf.Tensor) -> tf.Tensor:
    return operations.average_pool(x, context.windows(x, tuple(context.attribute("ksize")[1:3])))


def _matmul(context: Context, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    a = tf.transpose(a) if context.attribute("transpose_a") else a
    b = tf.transpose(b) if context.attribute("transpose_b") else b
    return matmul(a, b)


def _einsum(context: Context, *inputs: tf.Tensor) -> tf.Tensor:
    equation = context.attribute("equation")
    try:
        return einsum(equation, *inputs)
    except (TypeError, ValueError) as error:
        raise context.refusal(f"the product {equation}") from error


def _gather(context: Context, table: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    return tf.gather(table, places, batch_dims=context.attribute("batch_dims"))


def _batch_norm(
    context: Context, x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """As FusedBatchNormV3: the variance that it hands on is of a sample, x is normalized by that of the batch."""
    last = context.attribute("data_format") == "NHWC"
    channel = 3 if last else 1
    axes = [at for at in range(4) if at != channel]
    shape = [-1 if at == channel else 1 for at in range(4)]
    epsilon, keep = context.attribute("epsilon"), context.attribute("exponential_avg_factor")
    scale, offset = tf.reshape(scale, shape), tf.reshape(offset, shape)
    if not context.attribute("is_training"):
        factor = scale * tf.math.rsqrt(tf.reshape(variance, shape) + epsilon)
        return (x - tf.reshape(mean, shape)) * factor + offset, mean, variance, mean, variance, mean
    weight = context.among(x)
    found = operations.mean(x, axes, weight)
    spread = operations.mean(tf.square(x - found), axes, weight)
    y = (x - found) * tf.math.rsqrt(spread + epsilon) * scale + offset
    count = float(np.prod([x.shape[at] for at in axes]))
    count = tf.reduce_sum(weight) * (count / x.shape[0]) if weight is not None else tf.constant(count)
    of_sample = tf.reshape(spread, [-1]) * (count / tf.maximum(count - 1, 1.0))
    found = tf.reshape(found, [-1])
    if keep != 1.0:
        found = (1 - keep) * mean + keep * found
        of_sample = (1 - keep) * variance + keep * of_sample
    return y, found, of_sample, found, of_sample, found


def _mean(context: Context, x: tf.Tensor, axes: np.ndarray) -> tf.Tensor:
    """Over the first axis the mean of examples alone, without what fills up the batch."""
    places = [int(at) % len(x.shape) for at in np.reshape(axes, -1)]
    made = operations.mean(x, places, context.among(x))
    return made if context.attribute("keep_dims") else tf.squeeze(made, places)


def _strided_slice(
    context: Context, x: tf.Tensor, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> tf.Tensor:
    kinds = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    masks = {f"{kind}_mask": context.attribute(f"{kind}_mask") for kind in kinds}
    index: list[Any] = []
    for at in range(len(begin)):
        given = {kind for kind in kinds if masks[f"{kind}_mask"] >> at & 1}
        if "ellipsis" in given:
            index.append(Ellipsis)
        elif "new_axis" in given:
            index.append(None)
        elif "shrink_axis" in given:
            index.append(int(begin[at]))
        else:
            first, last = (
                None if kind in given else int(ends[at]) for kind, ends in (("begin", begin), ("end", end))
            )
            index.append(slice(first, last, int(strides[at])))
    return operations.sliced(
        x, index, lambda x: tf.raw_ops.StridedSlice(input=x, begin=begin, end=end, strides=strides, **masks)
    )


def _resize(context: Context, x: tf.Tensor, size: np.ndarray) -> tf.Tensor:
    """To the nearest pixel, as UpSampling2D does."""
    if context.attribute("align_corners"):
        raise context.refusal("aligned corners")
    shift = 0.5 if context.attribute("half_pixel_centers") else 0.0
    for at, wanted in zip((1, 2), size.tolist(), strict=True):
        table = np.floor((np.arange(wanted) + shift) * (x.shape[at] / wanted)).astype(np.int32)
        x = operations.picked(x, np.minimum(table, x.shape[at] - 1), at)
    return x


def _cross_entropy(context: Context, logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    loss = operations.cross_entropy(logits, labels)
    return loss, loss  # nobody takes the second output, which is for a gradient


def _activation(
    function: Callable[[Any], Any], slope: Callable[[Any, Any], Any]
) -> Callable[[Context, tf.Tensor], tf.Tensor]:
    return lambda context, x: operations.elementwise(x, function, slope)


def _leaky_relu(context: Context, x: tf.Tensor) -> tf.Tensor:
    alpha = context.attribute("alpha")
    return operations.elementwise(
        x, lambda x: tf.maximum(x, 0.0) + alpha * tf.minimum(x, 0.0), lambda x, y: tf.where(x > 0, 1.0, alpha)
    )


def _erf(x: tf.Tensor) -> tf.Tensor:
    """Within 1.5e-7. Milton Abramowitz and Irene A. Stegun 1964, Handbook of Mathematical Functions, 7.1.26."""
    t = 1 / (1 + 0.3275911 * tf.abs(x))
    factors = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    series = tf.zeros_like(x)
    for factor in factors:
        series = (series + factor) * t
    return tf.sign(x) * (1 - series * tf.exp(-tf.square(x)))


def _number(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.float32)


FORMS: dict[str, Callable[..., Any]] = {
    "AvgPool": _average_pool,
    "Conv2D": _conv2d,
    "DepthwiseConv2dNative": _depthwise,
    "Einsum": _einsum,
    "Erf": _activation(_erf, lambda x, y: 2 / np.sqrt(np.pi).astype(np.float32) * tf.exp(-tf.square(x))),
    "Expm1": _activation(lambda x: tf.exp(x) - 1, lambda x, y: y + 1),
    "Elu": _activation(tf.nn.elu, lambda x, y: tf.where(x > 0, tf.ones_like(x), y + 1)),
    "FusedBatchNormV3": _batch_norm,
    "IsFinite": lambda context, x: tf.abs(x) < np.finfo(np.float32).max,
    "LeakyRelu": _leaky_relu,
    "Log1p": _activation(lambda x: tf.math.log(1 + x), lambda x, y: 1 / (1 + x)),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mean": _mean,
    "Relu": _activation(tf.nn.relu, lambda x, y: _number(y > 0)),
    "Relu6": _activation(tf.nn.relu6, lambda x, y: _number(y > 0) * _number(y < 6)),
    "ResizeNearestNeighbor": _resize,
    "ResourceGather": _gather,
    "Selu": _activation(
        lambda x: SCALE * (tf.maximum(x, 0.0) + ALPHA * (tf.exp(tf.minimum(x, 0.0)) - 1)),
        lambda x, y: tf.where(x > 0, SCALE * tf.ones_like(x), y + SCALE * ALPHA),
    ),
    "Softplus": _activation(
        lambda x: tf.maximum(x, 0.0) + tf.math.log(1 + tf.exp(-tf.abs(x))), lambda x, y: tf.sigmoid(x)
    ),
    "Softsign": _activation(lambda x: x / (1 + tf.abs(x)), lambda x, y: 1 / tf.square(1 + tf.abs(x))),
    "StridedSlice": _strided_slice,
    "SparseSoftmaxCrossEntropyWithLogits": _cross_entropy,
}
