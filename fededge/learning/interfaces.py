"""The nouns of learning as protocols: what is learned, who learns, who is asked, and how updates are combined.

A framework (Keras, PyTorch, scikit-learn) brings a `ModelSpec` and a `Client` (fededge.clients); a place where clients
run brings a `ClientRuntime`; an `Engine` makes the next global weights of a round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport, Usage
from fededge.documents import ClientCounts, RoundRecord
from fededge.task import ClientOptimizer
from fededge.weights import Weights

ServerState = list[np.ndarray]
"""State of the aggregator and the server optimizer, as a flat list of arrays."""


class ModelSpec(Protocol):
    """A model of some framework, known by its named float32 weights."""

    def initial_weights(self) -> Weights:
        """The weights before the first round; the same seed of the task gives the same bits."""

    def checkpoint(self, file: Path) -> Weights:
        """The weights in a checkpoint that the model's own framework wrote.

        Raises:
            TaskError: it is of another model or framework, or changes what does not travel.
        """

    def predict(self, weights: Weights, x: np.ndarray) -> np.ndarray:
        """Answers float32 [n, schema.outputs] to stored examples x [n, *schema.shape].

        Probabilities for classes, numbers in their unit, or for a label of kind none the encoded features.
        """

    def inference(self, weights: Weights) -> Any:
        """The model that answers, as a tf.keras.Model, from which variants for LiteRT are built.

        Raises:
            VariantError: it has no form in Keras.
        """

    def onnx(self, weights: Weights) -> bytes:
        """The model that answers, as an ONNX file of float32, from which variants for ONNX Runtime are built.

        Raises:
            VariantError: it has no form in ONNX.
        """

    def export_plan(self, work: ClientOptimizer, task: str, folder: Path) -> None:
        """Write what clients execute, and plan.json, into `folder`.

        Args:
            work: a client's work in one round.
            task: identity of the task.
            folder: made where it is missing.
        """


class ClientRuntime(Protocol):
    """Reaches clients; use it with `with`. What it brings back is untrusted: whoever asks screens it."""

    def __enter__(self) -> Self:
        """Start what clients are reached by."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was started; an `error` that ends the round for good is told to the clients."""

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """Have each client of `cohort` train on `weights`; one report for each, as it arrives.

        A client that has not reported when `deadline_seconds` are over is reported as failed.
        """

    def enough(self) -> Usage:
        """Nobody waits for further reports of the round that `train` began: who still works may stop."""

    def evaluate(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """Have each of `clients` evaluate the `weights` after `round_number` on its own test examples; as `train`."""

    def ranges(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """Have each of `clients` measure ranges under `weights` on its own training examples; as `evaluate`."""


class Selector(Protocol):
    """Chooses the cohort of a round when that round begins."""

    def select(self, round_number: int, history: Sequence[RoundRecord]) -> list[ClientCounts]:
        """The clients that round `round_number` asks, in the order of their ids, out of those that are there.

        Args:
            round_number: of the round that begins.
            history: the rounds before it.
        """


class Aggregator(Protocol):
    """Combines updates into the next global weights."""

    def initialize(self) -> ServerState:
        """The server state before the first round."""

    def next(
        self, state: ServerState, weights: Weights, clients: Sequence[str]
    ) -> tuple[ServerState, Weights, dict[str, float]]:
        """Apply the updates of `clients`, such as screened update files, to `weights`; and the sums of training."""


@dataclass(frozen=True)
class RoundResult:
    """What the clients of one round made.

    Attributes:
        weights: the next global weights; `server`: the next server state.
        reported: ids whose updates count, sorted; `failed`: why the others' do not, by id.
        examples: sample passes; `loss` and `score` (`fededge.metrics`): over them, during training.
        losses: the mean loss by id, of `reported`; empty where clients are not told apart.
        spare: ids that the round did not wait for, sorted.
        usage: what the round took.
    """

    weights: Weights
    server: ServerState
    reported: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    examples: float = 0.0
    loss: float = 0.0
    score: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)


class Engine(Protocol):
    """Makes the next global weights out of the present ones and a cohort; use it with `with`."""

    def __enter__(self) -> "Engine":
        """Start what rounds need."""

    def __exit__(self, *error: Any) -> None:
        """End what was started."""

    def initialize(self) -> ServerState:
        """The server state before the first round."""

    def next(
        self, weights: Weights, server: ServerState, round_number: int, cohort: Sequence[ClientCounts]
    ) -> RoundResult:
        """Run round `round_number` with the clients in `cohort`; no update may claim more than its client holds.

        Raises:
            QuorumError: too few clients reported before the deadline.
            WorkerError: the TFF worker died or is stuck.
        """
