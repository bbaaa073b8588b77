"""Where the windows of a convolution or a pool lie: tables of pixel numbers, by which data are gathered.

Pixels of an image [h, w] are counted by rows; the number h * w stands for one outside of it.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of `size` pixels.

    Attributes:
        places: pixel of each output and tap, int64 [outputs, taps]; below 0 or from `size` on it is outside.
    """

    size: int
    places: np.ndarray

    @property
    def outputs(self) -> int:
        """How many windows there are."""
        return len(self.places)

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.places.shape[1]

    @property
    def reached(self) -> np.ndarray:
        """The output that sees a pixel by a tap, int32 [size, taps]; the number of outputs stands for none."""
        made = np.full((self.size, self.taps), self.outputs, np.int32)
        output, tap = np.nonzero((self.places >= 0) & (self.places < self.size))
        made[self.places[output, tap], tap] = output
        return made


@dataclass(frozen=True)
class Windows:
    """Windows of an image: `rows` and `columns` along its axes."""

    rows: Axis
    columns: Axis

    @property
    def pixels(self) -> int:
        """Of the image."""
        return self.rows.size * self.columns.size

    @property
    def outputs(self) -> int:
        """How many windows there are."""
        return self.rows.outputs * self.columns.outputs

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.rows.taps * self.columns.taps

    @property
    def seen(self) -> np.ndarray:
        """Pixel of each output and tap, int32 [outputs, taps]."""
        y, x = np.broadcast_arrays(self.rows.places[:, None, :, None], self.columns.places[None, :, None, :])
        inside = (y >= 0) & (y < self.rows.size) & (x >= 0) & (x < self.columns.size)
        seen = np.where(inside, y * self.columns.size + x, self.pixels)
        return seen.reshape(self.outputs, self.taps).astype(np.int32)

    @property
    def seen_by(self) -> np.ndarray:
        """Place in `seen`, flat, of each window and tap that sees a pixel: int32 [pixels, most that see one].

        The number outputs * taps stands for none.
        """
        return inverse(self.seen.reshape(-1), self.pixels)


def axis(size: int, taps: int, stride: int, dilation: int, padding: str) -> Axis:
    """The windows along an axis, padded as TensorFlow pads: SAME or VALID."""
    reach = (taps - 1) * dilation + 1
    if padding == "SAME":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + reach - size, 0) // 2
    else:
        outputs, before = (size - reach) // stride + 1, 0
    places = np.arange(outputs)[:, None] * stride + np.arange(taps)[None] * dilation - before
    return Axis(size, places)


def inverse(table: np.ndarray, count: int) -> np.ndarray:
    """Where in `table` [n] each number below `count` stands, int32 [count, most places of one]; n stands for nowhere."""
    order = np.argsort(table, kind="stable")
    order = order[table[order] < count]
    numbers = table[order]
    first = np.searchsorted(numbers, np.arange(count))
    made = np.full((count, max(1, np.bincount(numbers, minlength=count).max())), len(table), np.int32)
    made[numbers, np.arange(len(numbers)) - first[numbers]] = order
    return made


def with_zero(x: tf.Tensor, table: np.ndarray) -> tf.Tensor:
    """x [b, n, c] with zeros behind it where `table` asks for the number n."""
    return tf.pad(x, [[0, 0], [0, 1], [0, 0]]) if (table == x.shape[1]).any() else x
