"""A client that executes a plan's LiteRT file on its own folder: LiteRT and numpy, without TensorFlow.

It makes the random choices that a client on TensorFlow makes, and hands in the same update but for rounding.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from fededge import examples, metrics, philox, storage
from fededge import litert_program as names
from fededge.clients import Ranges
from fededge.documents import Plan
from fededge.errors import DivergedError, IntegrityError, TaskError, VariantError, shown
from fededge.update import Update
from fededge.weights import Weights

LARGEST = 256 << 20
"""Bytes of a file; it holds no weights."""


class LiteRTClient:
    """The plan in `plan`, bound to the client folder `data` (with train/ and test/).

    Args:
        plan: folder of the exported plan.
        data: the client's own folder.

    Raises:
        TaskError: the plan has no LiteRT file.
        DataError: the examples are malformed.
        IntegrityError: the file was changed, or is none.
    """

    def __init__(self, plan: Path, data: Path) -> None:
        self._plan = Plan.read(plan / "plan.json")
        if self._plan.litert is None:
            why = self._plan.litert_refused or "it was exported without a LiteRT file"
            raise TaskError(
                f"the plan cannot be trained on LiteRT: {why}. Run this client in the worker environment"
            )
        self._program = self._plan.litert
        self._data = data
        examples.read(data / "train", self._plan.example)
        content = storage.read_verified(str(plan / names.FILE), self._program.digest, LARGEST)
        try:
            interpreter = Interpreter(model_content=content, num_threads=1)
            self._train = interpreter.get_signature_runner(names.TRAIN)
            self._evaluate = interpreter.get_signature_runner(names.EVALUATE)
        except (ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"{plan / names.FILE} is no LiteRT file that trains: {shown(str(error), 200)}. Start a new run"
            ) from error
        self._inputs = self._train.get_input_details()

    def train(self, weights: Weights, seed: int) -> Update:
        """See Client."""
        x, y = examples.read(self._data / "train", self._plan.example)
        program = self._program
        before = self._variables(weights)
        state = before | {name: self._zeros(name) for name in self._named(names.memory)}
        totals = np.zeros(1 + len(self._sums))
        orders = (philox.shuffled(len(x), seed + epoch, program.buffer) for epoch in range(program.epochs))
        for step, places in enumerate(_batches(orders, program.batch_size)):
            given = self._batch(x, y, places) | self._masks(seed, step, len(places))
            found = _called(self._train, given | state)
            state = {name: found[name] for name in state}
            totals += self._told(found)
        delta = {
            v.name: np.subtract(before[name], state[name], out=state[name])
            for v, name in zip(self._plan.variables, before, strict=True)
        }
        if not all(np.isfinite(value).all() for value in delta.values()):
            raise DivergedError(
                "local training diverged to NaN or infinity: lower learning.client.learning_rate"
            )
        loss_sum, *sums = totals.tolist()
        return Update(
            delta, float(len(x) * program.epochs), loss_sum, dict(zip(self._sums, sums, strict=True))
        )

    def evaluate(self, weights: Weights) -> dict[str, float]:
        """See Client."""
        x, y = examples.read(self._data / "test", self._plan.example)
        variables, totals = self._variables(weights), np.zeros(1 + len(self._sums))
        for places in _batches([np.arange(len(x))], self._program.batch_size):
            totals += self._told(_called(self._evaluate, self._batch(x, y, places) | variables))
        loss_sum, *sums = totals.tolist()
        return {"examples": float(len(x)), "loss_sum": loss_sum, **dict(zip(self._sums, sums, strict=True))}

    def ranges(self, weights: Weights) -> Ranges:
        """Refused: the file has no activations to look at."""
        raise VariantError(
            "a client on LiteRT measures no ranges: int8 is calibrated by clients on TensorFlow"
        )

    @property
    def _sums(self) -> tuple[str, ...]:
        return metrics.SUMS[self._plan.example.label.kind]

    def _told(self, found: dict[str, np.ndarray]) -> np.ndarray:
        """The loss and the sums of a batch."""
        return np.array([found[names.LOSS_SUM], *found[names.SUMS]], np.float64)

    def _variables(self, weights: Weights) -> dict[str, np.ndarray]:
        return {names.variable(i): np.asarray(weights[v.name]) for i, v in enumerate(self._plan.variables)}

    def _batch(self, x: np.ndarray, y: np.ndarray, places: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `places`, filled up with the first of them, which does not count."""
        size = self._program.batch_size
        filled = np.concatenate([places, np.repeat(places[:1], size - len(places))])
        given = {
            names.EXAMPLES: examples.floats(x[filled]),
            names.WEIGHT: (np.arange(size) < len(places)).astype(np.float32),
        }
        return given | {names.LABELS: y[filled]} if names.LABELS in self._inputs else given

    def _masks(self, seed: int, step: int, count: int) -> dict[str, np.ndarray]:
        """Which units each dropout keeps in a step on `count` examples; the rest of a batch is left out."""
        made = {}
        for dropout, name in zip(self._program.dropout, self._named(names.keep), strict=True):
            shape = [int(size) for size in self._inputs[name]["shape"]]
            drawn = count if shape[0] == self._program.batch_size else shape[0]
            keep = philox.kept([drawn, *shape[1:]], (seed + dropout.salt, step), dropout.rate)
            if drawn < shape[0]:
                keep = np.concatenate([keep, np.zeros((shape[0] - drawn, *shape[1:]), np.float32)])
            made[name] = keep
        return made

    def _named(self, name: Any) -> list[str]:
        """The inputs of a step that `name` gives, by their numbers."""
        found: list[str] = []
        while (candidate := name(len(found))) in self._inputs:
            found.append(candidate)
        return found

    def _zeros(self, name: str) -> np.ndarray:
        return np.zeros(self._inputs[name]["shape"], self._inputs[name]["dtype"])


def _called(signature: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        found: dict[str, np.ndarray] = signature(**given)
    except (ValueError, RuntimeError) as error:
        raise VariantError(
            f"the plan's LiteRT file does not take what the plan says: {shown(str(error), 200)}. Start a new run"
        ) from error
    return found


def _batches(orders: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Places in the order of `orders`, `size` at a time; only the last batch may be smaller."""
    rest = np.zeros(0, np.int64)
    for order in orders:
        rest = np.concatenate([rest, order])
        while len(rest) >= size:
            batch, rest = rest[:size], rest[size:]
            yield batch
    if len(rest):
        yield rest
