"""A client's update: the only thing that training lets out of it, and the check at the door.

One safetensors file, all float32, of one fixed layout for a model: `delta/<variable>` (global minus
local weights, the sign of a gradient), then the scalars `examples`, `metrics/loss_sum` and one for each sum that a
score follows from (`fededge.metrics`). Header and size are the same for every client and round: an update says
nothing by its form. What its floats can tell about examples is another matter: see SECURITY.md.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fededge import metrics
from fededge.documents import Plan
from fededge.errors import UpdateError
from fededge.weights import Shapes, Weights, from_bytes, to_bytes

LARGEST_LOSS = 1e6
"""Of one sample: training that is worse has diverged."""


@dataclass(frozen=True)
class Update:
    """delta: named float32 tensors; examples: weight in the mean; loss_sum, sums: over all samples of training."""

    delta: Weights
    examples: float
    loss_sum: float
    sums: dict[str, float]


class UpdateFormat:
    """The fixed form of the updates of one model.

    Args:
        shapes: of the model's variables, by name.
        kind: of the label.
    """

    def __init__(self, shapes: Shapes, kind: str) -> None:
        self.kind = kind
        self.shapes = {name: shapes[name] for name in sorted(shapes)}
        self.scalars = ("examples", *sorted(f"metrics/{name}" for name in ("loss_sum", *metrics.SUMS[kind])))
        empty = {f"delta/{name}": np.zeros(shape, np.float32) for name, shape in self.shapes.items()}
        encoded = to_bytes(empty | {name: np.zeros((), np.float32) for name in self.scalars})
        self.size = len(encoded)
        self.offset = 8 + int.from_bytes(encoded[:8], "little")
        self._header = encoded[: self.offset]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The form of the updates that clients who execute `plan` hand in."""
        return cls({v.name: tuple(v.shape) for v in plan.variables}, plan.example.label.kind)

    def encode(self, update: Update) -> bytes:
        """The bytes of `update`.

        Raises:
            UpdateError: names or shapes are not those of the model.
        """
        found = {name: tuple(value.shape) for name, value in update.delta.items()}
        if {name: found[name] for name in sorted(found)} != self.shapes:
            raise UpdateError(f"the delta has tensors {found} where the model has {self.shapes}")
        tensors = {f"delta/{name}": np.asarray(value, np.float32) for name, value in update.delta.items()}
        told = {"loss_sum": update.loss_sum, **update.sums}
        scalars = {"examples": update.examples} | {f"metrics/{name}": value for name, value in told.items()}
        return to_bytes(tensors | {name: np.array(scalars[name], np.float32) for name in self.scalars})

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
        examples, loss_sum = float(tensors["examples"]), float(tensors["metrics/loss_sum"])
        sums = {name: float(tensors[f"metrics/{name}"]) for name in metrics.SUMS[self.kind]}
        if not 0 < examples <= max_examples:
            raise UpdateError(
                f"the update claims {examples:g} samples, where the client can have made at most {max_examples:g}"
            )
        if wrong := metrics.mistake(self.kind, examples, sums):
            raise UpdateError(f"the update claims over {examples:g} samples what cannot be: {wrong}")
        if not 0 <= loss_sum <= examples * LARGEST_LOSS:
            raise UpdateError(f"the update claims a loss of {loss_sum:g} over {examples:g} samples")
        delta = {name: tensors[f"delta/{name}"] for name in self.shapes}
        if max_norm is not None:
            norm = float(np.sqrt(sum(float(np.vdot(value, value)) for value in delta.values())))
            if norm > max_norm:
                raise UpdateError(f"the update's norm {norm:.4g} exceeds learning.max_update_norm {max_norm}")
        return Update(delta, examples, loss_sum, sums)
