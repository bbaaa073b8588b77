"""Values and gradients of Keras's layers in builtin operations of LiteRT, for tensors of known shapes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fededge.learning.frameworks.keras.litert.windows import Windows, inverse, with_zero

Gradient = Callable[..., Any]
LOWEST = -3.0e38


def elementwise(x: tf.Tensor, function: Gradient, slope: Gradient) -> tf.Tensor:
    """`function` of each number; `slope` gives its derivative from x and what it gave."""

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        y = function(x)
        return y, lambda g: g * slope(x, y)

    return apply(x)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Of each row of logits [n, classes] against labels [n]."""

    @tf.custom_gradient
    def apply(logits: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        target = tf.one_hot(labels, logits.shape[-1])
        loss = -tf.reduce_sum(tf.nn.log_softmax(logits) * target, -1)
        return loss, lambda g: g[:, tf.newaxis] * (tf.nn.softmax(logits) - target)

    return apply(logits)


def picked(x: tf.Tensor, table: np.ndarray, axis: int) -> tf.Tensor:
    """The places `table` [n] of x along `axis`, each as often as it is named."""
    back = inverse(table, x.shape[axis])

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(g: tf.Tensor) -> tf.Tensor:
            if (back == len(table)).any():
                g = tf.pad(g, [[0, 1 if at == axis else 0] for at in range(len(g.shape))])
            if back.shape[1] == 1:
                return tf.gather(g, back[:, 0], axis=axis)
            return tf.reduce_sum(tf.gather(g, back, axis=axis), axis + 1)

        return tf.gather(x, table, axis=axis), gradient

    return apply(x)


def sliced(x: tf.Tensor, index: Sequence[Any], take: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """x[index], which `take` does; the gradient is put where it came from."""
    places = [np.arange(size) for size in x.shape]
    full = list(index)
    if Ellipsis in full:
        at = full.index(Ellipsis)
        named = sum(part is not None for part in full) - 1
        full[at : at + 1] = [slice(None)] * (len(places) - named)
    along = [part for part in full if part is not None]
    along += [slice(None)] * (len(places) - len(along))
    chosen = [np.atleast_1d(numbers[part]) for numbers, part in zip(places, along, strict=True)]

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(g: tf.Tensor) -> tf.Tensor:
            g = tf.reshape(g, [len(numbers) for numbers in chosen])
            for axis, numbers in enumerate(chosen):
                size, runs = x.shape[axis], np.array_equal(numbers, np.arange(len(numbers)) + numbers[0])
                if len(numbers) == size and runs:
                    continue
                ends = (int(numbers[0]), size - 1 - int(numbers[-1])) if runs else (0, 1)
                g = tf.pad(g, [ends if at == axis else (0, 0) for at in range(len(chosen))])
                g = g if runs else tf.gather(g, inverse(numbers, size)[:, 0], axis=axis)
            return g

        return take(x), gradient

    return apply(x)


def windows_of(x: tf.Tensor, windows: Windows) -> tf.Tensor:
    """What the windows see of x [b, h, w, c]: [b, outputs, taps, c], zero outside of the image."""
    b, _, _, c = x.shape

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        seen, seen_by = windows.seen, windows.seen_by
        flat = with_zero(tf.reshape(x, (b, windows.pixels, c)), seen)

        def gradient(g: tf.Tensor) -> tf.Tensor:
            g = with_zero(tf.reshape(g, (b, seen.size, c)), seen_by)
            return tf.reshape(tf.reduce_sum(tf.gather(g, seen_by, axis=1), 2), x.shape)

        return tf.gather(flat, seen, axis=1), gradient

    return apply(x)


def depthwise(x: tf.Tensor, kernel: tf.Tensor, windows: Windows) -> tf.Tensor:
    """x [b, h, w, c] with kernel [kh, kw, c, m] to [b, h', w', c * m]."""
    b, c, m = x.shape[0], x.shape[3], kernel.shape[3]
    seen = windows_of(x, windows)
    if m == 1:
        made = tf.reduce_sum(seen * tf.reshape(kernel, (1, 1, windows.taps, c)), 2)
    else:
        factors = tf.reshape(kernel, (1, 1, windows.taps, c, m))
        made = tf.reduce_sum(tf.reshape(seen, (*seen.shape, 1)) * factors, 2)
    return tf.reshape(made, (b, windows.rows.outputs, windows.columns.outputs, c * m))


def average_pool(x: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The mean of what each window sees within the image x [b, h, w, c]."""
    counts = (windows.seen < windows.pixels).sum(1).astype(np.float32)
    made = tf.reduce_sum(windows_of(x, windows), 2) * (1 / counts)[None, :, None]
    return tf.reshape(made, (x.shape[0], windows.rows.outputs, windows.columns.outputs, x.shape[3]))


def max_pool(x: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The largest of what each window sees of x [b, h, w, c]; its gradient goes to the first of the largest."""
    b, _, _, c = x.shape
    shape = (b, windows.rows.outputs, windows.columns.outputs, c)
    seen = windows.seen.T
    back = inverse(seen.reshape(-1), windows.pixels)

    @tf.custom_gradient
    def apply(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        flat = tf.reshape(x, (b, windows.pixels, c))
        if (seen == windows.pixels).any():
            flat = tf.pad(flat, [[0, 0], [0, 1], [0, 0]], constant_values=np.float32(LOWEST))
        taps = [tf.gather(flat, places, axis=1) for places in seen]
        y = taps[0]
        for tap in taps[1:]:
            y = tf.maximum(y, tap)

        def gradient(g: tf.Tensor) -> tf.Tensor:
            left, parts = tf.reshape(g, (b, windows.outputs, c)), []
            for tap in taps[:-1]:
                parts.append(tf.cast(tf.equal(tap, y), tf.float32) * left)
                left = left - parts[-1]
            given = with_zero(tf.concat([*parts, left], 1), back)
            if back.shape[1] == 1:
                return tf.reshape(tf.gather(given, back[:, 0], axis=1), x.shape)
            return tf.reshape(tf.reduce_sum(tf.gather(given, back, axis=1), 2), x.shape)

        return tf.reshape(y, shape), gradient

    return apply(x)


def mean(x: tf.Tensor, axes: Sequence[int], weight: tf.Tensor | None) -> tf.Tensor:
    """The mean over `axes`, kept with size 1; over the first one only of the examples that have a `weight` [b] of 1."""
    count = math.prod(x.shape[axis] for axis in axes)
    if weight is None or 0 not in axes:
        return tf.reduce_sum(x, axes, keepdims=True) / count
    among = tf.reshape(weight, (x.shape[0], *[1] * (len(x.shape) - 1)))
    return tf.reduce_sum(x * among, axes, keepdims=True) / (tf.reduce_sum(weight) * (count / x.shape[0]))
