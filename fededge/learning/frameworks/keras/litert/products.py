"""Products of matrices, in the only form that XNNPACK takes where weights are no constants: BATCH_MATMUL of rank 3."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[m, k] times [k, n]."""

    @tf.custom_gradient
    def apply(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        return product(a, b), lambda g: (product(g, b, transposed=True), product(tf.transpose(a), g))

    return apply(a, b)


def einsum(equation: str, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """tf.einsum of two tensors, of which none has an index twice, as one product of matrices.

    Raises:
        ValueError: `equation` is no such one.
    """
    of_a, of_b, wanted = equation.replace("->", ",").split(",")
    if any(len(set(part)) < len(part) or not part.isalpha() for part in (of_a, of_b, wanted)):
        raise ValueError(equation)
    both = [i for i in of_a if i in of_b]
    batch, summed = [i for i in both if i in wanted], [i for i in both if i not in wanted]
    left, right = [i for i in of_a if i not in both], [i for i in of_b if i not in both]
    if set(left) | set(right) | set(batch) != set(wanted):
        raise ValueError(equation)
    size = dict(zip(of_a + of_b, (*a.shape, *b.shape), strict=True))

    def count(indices: Sequence[str]) -> int:
        return math.prod(size[i] for i in indices)

    rows = _ordered(a, of_a, [*batch, *left, *summed])
    columns = _ordered(b, of_b, [*batch, *summed, *right])
    if batch:
        made = tf.matmul(
            tf.reshape(rows, (count(batch), count(left), count(summed))),
            tf.reshape(columns, (count(batch), count(summed), count(right))),
        )
    else:
        made = matmul(
            tf.reshape(rows, (count(left), count(summed))),
            tf.reshape(columns, (count(summed), count(right))),
        )
    found = [*batch, *left, *right]
    return _ordered(tf.reshape(made, [size[i] for i in found]), "".join(found), list(wanted))


def product(a: tf.Tensor, b: tf.Tensor, transposed: bool = False) -> tf.Tensor:
    """[m, k] times [k, n], or [n, k] where b is `transposed`; of rank 3, lest it become FULLY_CONNECTED.

    Where m or k is 1, the converter folds the reshapes wrongly: such a product is made of numbers.
    """
    a, b = (tf.reshape(v, v.shape[-2:]) for v in (a, b))
    if a.shape[1] == 1:
        return a * tf.reshape(b, (1, -1))
    if a.shape[0] == 1:
        made = tf.reduce_sum(a * b, 1) if transposed else tf.reduce_sum(tf.reshape(a, (-1, 1)) * b, 0)
        return tf.reshape(made, (1, -1))
    made = tf.matmul(tf.reshape(a, (1, *a.shape)), tf.reshape(b, (1, *b.shape)), transpose_b=transposed)
    return tf.reshape(made, made.shape[1:])


def _ordered(x: tf.Tensor, indices: str, wanted: Sequence[str]) -> tf.Tensor:
    order = [indices.index(i) for i in wanted]
    return x if order == sorted(order) else tf.transpose(x, order)
