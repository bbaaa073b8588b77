"""Convolution as products of matrices, a part of the batch at a time, so that the patches of an image stay small.

What is written here as it is for speed and memory:

- XNNPACK takes BATCH_MATMUL of rank 3, but where weights are no constants neither CONV_2D nor FULLY_CONNECTED.
- Patches are gathered with constant tables, which copies runs of channels; where there are few of them, runs of a whole
  batch. They are gathered again for the gradient, since they would be the largest tensors that a step keeps.
- XNNPACK's RESHAPE copies and the builtin one does not: patches are reshaped in seven dimensions, one more than XNNPACK
  takes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fededge.learning.frameworks.keras.litert.products import matmul, product
from fededge.learning.frameworks.keras.litert.windows import Windows, with_zero

FEW_CHANNELS = 8
LARGEST_PATCHES = 1 << 20
"""Bytes of the patches of a part, where it has more than one image."""


def conv2d(x: tf.Tensor, kernel: tf.Tensor, windows: Windows, learned: bool) -> tf.Tensor:
    """x [b, h, w, ci] with kernel [kh, kw, ci, co] to [b, h', w', co].

    Args:
        x: what the windows lie on.
        kernel: of the convolution.
        windows: one for each output pixel.
        learned: whether `x` depends on weights, and needs a gradient.
    """
    b, _, _, ci = x.shape
    co, shape = kernel.shape[3], (b, windows.rows.outputs, windows.columns.outputs, kernel.shape[3])
    if windows.taps == 1 and np.array_equal(windows.seen[:, 0], np.arange(windows.pixels)):
        return tf.reshape(matmul(tf.reshape(x, (-1, ci)), tf.reshape(kernel, (ci, co))), shape)
    convolution = _Convolution(windows, tuple(kernel.shape))

    @tf.custom_gradient
    def apply(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        flat = with_zero(tf.reshape(x, (b, windows.pixels, ci)), windows.seen)

        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            g = tf.reshape(g, (b, windows.outputs, co))
            to_kernel = tf.reshape(convolution.to_kernel(flat, g), kernel.shape)
            to_x = convolution.to_image(g, kernel) if learned else tf.zeros_like(x)
            return tf.reshape(to_x, x.shape), to_kernel

        return tf.reshape(convolution.value(flat, kernel), shape), gradient

    return apply(x, kernel)


class _Convolution:
    """A convolution with a kernel of a shape; `flat` are the pixels [b, pixels, ci], g gradients [b, outputs, co]."""

    def __init__(self, windows: Windows, kernel: tuple[int, ...]) -> None:
        self._windows = windows
        self._kernel = kernel
        self._taps = windows.taps
        self._seen, self._outputs = windows.seen, windows.outputs
        self._ci, self._co = kernel[2], kernel[3]

    def value(self, flat: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """[b, outputs, co]."""
        ci, co, taps = self._ci, self._co, self._taps
        made: list[tf.Tensor] = []
        for part, _ in _parts(flat, self._outputs * taps * ci):
            count, now = part.shape[0], _after(made)
            if ci < FEW_CHANNELS:
                turned = tf.transpose(tf.reshape(kernel, (taps, ci, co)), [2, 1, 0])
                y = product(tf.reshape(turned, (co, ci * taps)), self._across(part, now))
                made.append(tf.transpose(tf.reshape(y, (co, self._outputs, count)), [2, 1, 0]))
            else:
                patches = _gathered(part, self._seen, (1, count * self._outputs, taps * ci), now)
                y = product(patches, tf.reshape(kernel, (taps * ci, co)))
                made.append(tf.reshape(y, (count, self._outputs, co)))
        return _joined(made)

    def to_kernel(self, flat: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
        """[taps, ci, co]."""
        made: list[tf.Tensor] = []
        for part, places in _parts(flat, self._outputs * self._taps * self._ci):
            given = _rows(g, places)
            patches = self._across(part, _after([given, *made]))
            given = tf.reshape(tf.transpose(given, [1, 0, 2]), (self._outputs * len(places), self._co))
            made.append(product(patches, given))
        total = made[0] if len(made) == 1 else tf.add_n(made)
        return tf.transpose(tf.reshape(total, (self._ci, self._taps, self._co)), [1, 0, 2])

    def to_image(self, g: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """[b, pixels, ci]: first along rows of pixels, as patches of g and a product, then down the columns, as a sum."""
        kh, kw, ci, co = self._kernel
        first, second = self._tables()
        turned = tf.reshape(tf.transpose(kernel, [1, 3, 0, 2]), (kw * co, kh * ci))
        made: list[tf.Tensor] = []
        for part, places in _parts(g, first.size * co):
            count = len(places)
            given, now = with_zero(part, first), _after(made)
            patches = _gathered(given, first, (1, count * len(first), kw * co), now)
            along = tf.reshape(product(patches, turned), (count, 1, 1, 1, 1, len(first) * kh, ci))
            down = tf.reshape(tf.gather(along, second, axis=5), (count, self._windows.pixels, kh, ci))
            made.append(tf.reduce_sum(down, 2))
        return _joined(made)

    def _across(self, flat: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Patches [1, ci * taps, outputs * b]; `now` as for _gathered."""
        shape = (1, self._ci * self._taps, self._outputs * flat.shape[0])
        return _gathered(tf.transpose(flat, [2, 1, 0]), self._seen.T, shape, now)

    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Which output a pixel of a row of outputs sees by a tap, and which of these a pixel of the image is made of."""
        kh, kw = self._kernel[:2]
        rows, columns = self._windows.rows, self._windows.columns
        oh, ow, w = rows.outputs, columns.outputs, columns.size
        along = columns.reached[None]
        first = np.where(along < ow, np.arange(oh)[:, None, None] * ow + along, oh * ow).reshape(oh * w, kw)
        nothing = np.full((1, kw), oh * ow)
        down = rows.reached[:, None]
        places = (down * w + np.arange(w)[None, :, None]) * kh + np.arange(kh)
        second = np.where(down < oh, places, oh * w * kh).reshape(self._windows.pixels, kh)
        return np.concatenate([first, nothing]).astype(np.int32), second.astype(np.int32)


def _parts(x: tf.Tensor, numbers: int) -> Iterator[tuple[tf.Tensor, np.ndarray]]:
    """Parts of x along its first axis, whose patches have so many `numbers` each; with their places."""
    count = min(x.shape[0], -(-x.shape[0] * numbers * 4 // LARGEST_PATCHES))
    for places in np.array_split(np.arange(x.shape[0], dtype=np.int32), count):
        yield _rows(x, places), places


def _rows(x: tf.Tensor, places: np.ndarray) -> tf.Tensor:
    return x if len(places) == x.shape[0] else tf.gather(x, places, axis=0)


def _after(made: Sequence[tf.Tensor]) -> tf.Tensor:
    """Zero, but only once the last of `made` is there; by no number of XNNPACK's, which would interrupt its work."""
    if not made:
        return tf.constant(0)
    last = made[-1]
    first = tf.slice(last, [0] * len(last.shape), [1] * len(last.shape))
    return tf.reshape(tf.cast(first > np.inf, tf.int32), ())


def _gathered(x: tf.Tensor, table: np.ndarray, shape: Sequence[int], now: tf.Tensor) -> tf.Tensor:
    """x [p, n, q] gathered along n by a table of two dimensions, as `shape`; by way of seven dimensions.

    `now` is zero, and is waited for: what is gathered is not in memory before.
    """
    places = table.reshape((1, 1, 1, *table.shape)) + now
    return tf.reshape(tf.gather(x, places, axis=1), shape)


def _joined(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)
