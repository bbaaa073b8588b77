"""A client's update: the only thing that training lets out of it, and the check at the door.

One safetensors file, all float32, of one fixed layout for a model: `delta/<variable>` (global minus
local weights, the sign of a gradient), then the scalars `examples`, `metrics/correct` and
`metrics/loss_sum`. Header and size are the same for every client and round: an update says nothing by
its form. What its floats can tell about examples is another matter: see SECURITY.md.
"""

from dataclasses import dataclass

import numpy as np

from fededge.errors import UpdateError
from fededge.weights import Shapes, Weights, from_bytes, to_bytes

LARGEST_LOSS = 1e6
"""Of one sample, in nats: training that is worse has diverged."""
SCALARS = ("examples", "metrics/correct", "metrics/loss_sum")


@dataclass(frozen=True)
class Update:
    """delta: named float32 tensors; examples: weight in the mean; metrics: training sums."""

    delta: Weights
    examples: float
    correct: float
    loss_sum: float


class UpdateFormat:
    """The fixed form of the updates of one model.

    Args:
        shapes: of the model's variables, by name.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = {name: shapes[name] for name in sorted(shapes)}
        empty = {f"delta/{name}": np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        encoded = to_bytes(empty | {name: np.zeros((), np.float32) for name in SCALARS})
        self.size = len(encoded)
        self.offset = 8 + int.from_bytes(encoded[:8], "little")
        self._header = encoded[: self.offset]

    def encode(self, update: Update) -> bytes:
        """The bytes of `update`.

        Raises:
            UpdateError: names or shapes are not those of the model.
        """
        found = {name: tuple(value.shape) for name, value in update.delta.items()}
        if found != self.shapes:
            raise UpdateError(f"the delta has tensors {found} where the model has {self.shapes}")
        tensors = {f"delta/{name}": np.asarray(value, np.float32) for name, value in update.delta.items()}
        scalars = (update.examples, update.correct, update.loss_sum)
        return to_bytes(tensors | {n: np.array(v, np.float32) for n, v in zip(SCALARS, scalars, strict=True)})

    def screen(self, data: bytes, max_examples: float, max_norm: float | None = None) -> Update:
        """The update in untrusted `data`, if it is one.

        Args:
            data: what a client handed in.
            max_examples: sample passes that it can have made: what it holds, times the epochs.
            max_norm: largest L2 norm of the whole delta.

        Raises:
            UpdateError: another size or form, NaN or infinite values, counts or metrics that cannot be, or
                too large a norm.
        """
        if len(data) != self.size:
            raise UpdateError(f"an update has {self.size:,} bytes for this model, this one has {len(data):,}")
        if data[: self.offset] != self._header:
            raise UpdateError("the update's names, shapes or types are not those of the model")
        tensors = from_bytes(data)
        if not all(np.isfinite(value).all() for value in tensors.values()):
            raise UpdateError("the update has NaN or infinite values: lower the client's learning rate")
        examples, correct, loss_sum = (float(tensors[name]) for name in SCALARS)
        if not 0 < examples <= max_examples or not 0 <= correct <= examples:
            raise UpdateError(
                f"the update claims {examples:g} samples of which {correct:g} are correct, where the client can "
                f"have made at most {max_examples:g}"
            )
        if not 0 <= loss_sum <= examples * LARGEST_LOSS:
            raise UpdateError(f"the update claims a loss of {loss_sum:g} over {examples:g} samples")
        delta = {name: tensors[f"delta/{name}"] for name in self.shapes}
        if max_norm is not None:
            norm = float(np.sqrt(sum(float(np.vdot(value, value)) for value in delta.values())))
            if norm > max_norm:
                raise UpdateError(f"the update's norm {norm:.4g} exceeds learning.max_update_norm {max_norm}")
        return Update(delta, examples, correct, loss_sum)
