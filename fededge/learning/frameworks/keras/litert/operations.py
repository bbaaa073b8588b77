"""Operations of Keras's layers with gradients that LiteRT executes: builtin operations alone, fast under XNNPACK.

All shapes are known. What is written here as it is for speed:

- Heavy work is BATCH_MATMUL of rank 3: where weights are no constants, XNNPACK takes neither CONV_2D nor FULLY_CONNECTED.
- Data move by GATHER with constant tables, which copies whole runs of channels; STRIDED_SLICE copies number by number.
- XNNPACK's RESHAPE copies and the builtin one does not: large tensors are reshaped in seven dimensions, one more than
  XNNPACK takes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fededge.learning.frameworks.keras.litert.windows import Windows, inverse

Gradient = Callable[..., Any]
FEW_CHANNELS = 8
"""With fewer of them, runs of a whole batch are copied instead of runs of channels."""
LOWEST = -3.0e38


def matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """[m, k] times [k, n]."""

    @tf.custom_gradient
    def product(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return _product(a, b), lambda g: (_product(g, b, transposed=True), _product(tf.transpose(a), g))

    return product(a, b)


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
        flat = _with_zero(tf.reshape(x, (b, windows.pixels, c)), seen)

        def gradient(g: tf.Tensor) -> tf.Tensor:
            g = _with_zero(tf.reshape(g, (b, seen.size, c)), seen_by)
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
            given = _with_zero(tf.concat([*parts, left], 1), back)
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


def conv2d(x: tf.Tensor, kernel: tf.Tensor, windows: Windows, learned: bool) -> tf.Tensor:
    """x [b, h, w, ci] with kernel [kh, kw, ci, co] to [b, h', w', co].

    Args:
        x: what the windows lie on.
        kernel: of the convolution.
        windows: one for each output pixel.
        learned: whether `x` depends on weights, and needs a gradient.
    """
    b, h, w, ci = x.shape
    co, taps, rows, seen = kernel.shape[3], windows.taps, windows.outputs, windows.seen
    plain = taps == 1 and np.array_equal(seen[:, 0], np.arange(windows.pixels))

    @tf.custom_gradient
    def apply(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        flat = _with_zero(tf.reshape(x, (b, h * w, ci)), seen)

        def across() -> tf.Tensor:
            """Patches [1, ci * taps, rows * b]."""
            return _gathered(tf.transpose(flat, [2, 1, 0]), seen.T, (1, ci * taps, rows * b))

        if plain:
            y = _product(tf.reshape(x, (b * rows, ci)), tf.reshape(kernel, (ci, co)))
        elif ci < FEW_CHANNELS:
            patches = across()
            turned = tf.transpose(tf.reshape(kernel, (taps, ci, co)), [2, 1, 0])
            y = _product(tf.reshape(turned, (co, ci * taps)), patches)
            y = tf.transpose(tf.reshape(y, (co, rows, b)), [2, 1, 0])
        else:
            patches = _gathered(flat, seen, (1, b * rows, taps * ci))
            y = _product(patches, tf.reshape(kernel, (taps * ci, co)))

        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            g = tf.reshape(g, (b, rows, co))
            if plain:
                given = tf.reshape(g, (b * rows, co))
                to_kernel = _product(tf.transpose(tf.reshape(x, (b * rows, ci))), given)
                to_x = _product(given, tf.reshape(kernel, (ci, co)), transposed=True)
                return tf.reshape(to_x, x.shape), tf.reshape(to_kernel, kernel.shape)
            given = tf.reshape(tf.transpose(g, [1, 0, 2]), (rows * b, co))
            to_kernel = _product(patches if ci < FEW_CHANNELS else across(), given)
            to_kernel = tf.transpose(tf.reshape(to_kernel, (ci, taps, co)), [1, 0, 2])
            to_x = _to_image(g, kernel, windows) if learned else tf.zeros_like(x)
            return tf.reshape(to_x, x.shape), tf.reshape(to_kernel, kernel.shape)

        return tf.reshape(y, (b, windows.rows.outputs, windows.columns.outputs, co)), gradient

    return apply(x, kernel)


def _to_image(g: tf.Tensor, kernel: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The gradient for each pixel, [b, pixels, ci], of that for each output, g [b, outputs, co].

    First along the rows of pixels, as patches of g and one product; then what each row of outputs gave is added up.
    """
    kh, kw, ci, co = kernel.shape
    b, w = g.shape[0], windows.columns.size
    oh, ow = windows.rows.outputs, windows.columns.outputs
    along = windows.columns.reached[None]
    first = np.where(along < ow, np.arange(oh)[:, None, None] * ow + along, oh * ow).reshape(oh * w, kw)
    first = np.concatenate([first, np.full((1, kw), oh * ow)]).astype(
        np.int32
    )  # the last one sees zeros alone
    down = windows.rows.reached[:, None]
    place = (down * w + np.arange(w)[None, :, None]) * kh + np.arange(kh)
    second = np.where(down < oh, place, oh * w * kh).reshape(windows.pixels, kh).astype(np.int32)
    patches = _gathered(_with_zero(g, first), first, (1, b * len(first), kw * co))
    turned = tf.reshape(tf.transpose(kernel, [1, 3, 0, 2]), (kw * co, kh * ci))
    parts = tf.reshape(_product(patches, turned), (b, 1, 1, 1, 1, len(first) * kh, ci))
    return tf.reduce_sum(tf.reshape(tf.gather(parts, second, axis=5), (b, windows.pixels, kh, ci)), 2)


def _product(a: tf.Tensor, b: tf.Tensor, transposed: bool = False) -> tf.Tensor:
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


def _gathered(x: tf.Tensor, table: np.ndarray, shape: Sequence[int]) -> tf.Tensor:
    """x [p, n, q] gathered along n by a table of two dimensions, as `shape`; by way of seven dimensions."""
    return tf.reshape(tf.gather(x, table.reshape((1, 1, 1, *table.shape)), axis=1), shape)


def _with_zero(x: tf.Tensor, table: np.ndarray) -> tf.Tensor:
    """x [b, n, c] with zeros behind it where `table` asks for the number n."""
    return tf.pad(x, [[0, 0], [0, 1], [0, 0]]) if (table == x.shape[1]).any() else x


def _ordered(x: tf.Tensor, indices: str, wanted: Sequence[str]) -> tf.Tensor:
    order = [indices.index(i) for i in wanted]
    return x if order == sorted(order) else tf.transpose(x, order)
