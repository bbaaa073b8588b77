"""Operations for LiteRT have TensorFlow's values and gradients."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fededge.learning.frameworks.keras.litert import convolution, operations
from fededge.learning.frameworks.keras.litert.products import einsum, matmul
from fededge.learning.frameworks.keras.litert.windows import Windows, axis

pytestmark = pytest.mark.environment("worker")
RNG = np.random.default_rng(0)
LAYOUTS = list(itertools.product(("SAME", "VALID"), (1, 2, 3)))


def numbers(*shape: int) -> tf.Tensor:
    return tf.constant(RNG.normal(0, 1, shape), tf.float32)


def agree(ours: Callable[..., Any], theirs: Callable[..., Any], *inputs: tf.Tensor) -> None:
    """Both functions have the same values, and the same gradients of a sum with weights of its own."""
    found = []
    for function in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(*inputs)
            weights = tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))
            total = tf.reduce_sum(y * weights)
        gradients = tape.gradient(total, inputs)
        found.append([y, *(tf.convert_to_tensor(gradient) for gradient in gradients)])
    for mine, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-4)


def windows(x: tf.Tensor, taps: tuple[int, int], stride: int, padding: str, dilation: int = 1) -> Windows:
    rows, columns = (axis(x.shape[i + 1], taps[i], stride, dilation, padding) for i in (0, 1))
    return Windows(rows, columns)


@pytest.mark.parametrize(("padding", "stride"), LAYOUTS)
@pytest.mark.parametrize("channels", [3, 9])
@pytest.mark.parametrize("largest", [1 << 20, 1000])
def test_convolutions_agree(
    padding: str, stride: int, channels: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "LARGEST_PATCHES", largest)
    x = numbers(5, 7, 8, channels)
    for taps, dilation in (((3, 2), 1), ((1, 1), 1), ((2, 3), 2)):
        if dilation > 1 and stride > 1:
            continue
        seen = windows(x, taps, stride, padding, dilation)
        agree(
            lambda x, kernel, seen=seen: convolution.conv2d(x, kernel, seen, learned=True),
            lambda x, kernel, d=dilation: tf.nn.conv2d(x, kernel, stride, padding, dilations=d),
            x,
            numbers(*taps, channels, 4),
        )


@pytest.mark.parametrize(("padding", "stride"), LAYOUTS)
def test_depthwise_convolutions_and_pools_agree(padding: str, stride: int) -> None:
    x = numbers(2, 7, 8, 3)
    seen = windows(x, (3, 2), stride, padding)
    for multiplier in (1, 2):
        agree(
            lambda x, kernel: operations.depthwise(x, kernel, seen),
            lambda x, kernel: tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], padding),
            x,
            numbers(3, 2, 3, multiplier),
        )
    agree(
        lambda x: operations.average_pool(x, seen),
        lambda x: tf.nn.avg_pool2d(x, (3, 2), stride, padding),
        x,
    )
    tied = tf.round(x)  # where several are the largest, the first of them learns
    agree(
        lambda x: operations.max_pool(x, seen), lambda x: tf.nn.max_pool2d(x, (3, 2), stride, padding), tied
    )


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)])
def test_products_agree(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    agree(matmul, tf.matmul, numbers(m, k), numbers(k, n))


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("abc,cde->abde", (2, 3, 4), (4, 5, 6)),
        ("aecd,abcd->acbe", (2, 3, 4, 5), (2, 6, 4, 5)),
        ("ab,bc->ca", (2, 3), (3, 4)),
    ],
)
def test_sums_of_products_agree(equation: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    def ours(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return einsum(equation, a, b)

    agree(ours, lambda a, b: tf.einsum(equation, a, b), numbers(*left), numbers(*right))


def test_equations_that_are_no_product_of_matrices_are_refused() -> None:
    for equation in ("aa,ab->b", "ab,cd->ad"):
        with pytest.raises(ValueError, match=equation):
            einsum(equation, numbers(2, 2), numbers(2, 2))


INDICES = [
    (slice(None), slice(1, -1), 2),
    (Ellipsis, slice(None, None, 2)),
    (slice(None), slice(None, None, -1), slice(-2, None)),
    (0, None, slice(1, 3)),
    (slice(None), -1),
]


@pytest.mark.parametrize("index", INDICES)
def test_parts_of_a_tensor_agree(index: Any) -> None:
    agree(lambda x: operations.sliced(x, index, lambda x: x[index]), lambda x: x[index], numbers(3, 5, 6))


def test_places_that_are_named_often_or_never_agree() -> None:
    for table in ([2, 2, 0, 4], [0, 1, 2, 3, 4], [3]):
        places = np.array(table)
        agree(
            lambda x, places=places: operations.picked(x, places, 1),
            lambda x, places=places: tf.gather(x, places, axis=1),
            numbers(2, 5, 3),
        )


def test_a_mean_over_a_batch_is_of_its_examples_alone() -> None:
    x, weight = numbers(4, 3), tf.constant([1.0, 1.0, 1.0, 0.0])
    found = operations.mean(x, [0], weight)
    np.testing.assert_allclose(found, tf.reduce_mean(x[:3], 0, keepdims=True), rtol=1e-6)
