"""How good a model is on held-out examples: accuracy, loss, per class, confusion, and at each client."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fededge.documents import ClassScore, ClientCounts, ClientScore, Evaluation, Label, Population, Score
from fededge.errors import DivergedError, RoundError
from fededge.learning.interfaces import ClientRuntime, EvaluationReport, ModelSpec
from fededge.learning.state import State
from fededge.metrics import METRIC
from fededge.weights import Weights

SMALLEST = 1e-7
"""Probability below which the loss of an example is not followed."""


def evaluate(
    scores: np.ndarray, y: np.ndarray, label: Label, *, round: int = 0, samples: float = 0
) -> Evaluation:
    """What `scores` float32 [n, classes] are worth for labels y int64 [n].

    Args:
        scores: probabilities.
        y: labels.
        label: what is predicted.
        round: after which the model was taken.
        samples: sample passes that training took until then.

    Raises:
        DivergedError: the scores are not finite.
    """
    loss = _loss(scores, y)
    confusion = np.zeros((label.classes, label.classes), np.int64)
    np.add.at(confusion, (y, scores.argmax(axis=1)), 1)
    hits, actual, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return Evaluation(
        round=round,
        metric=METRIC[label.kind],
        score=float(hits.sum() / len(y)),
        loss=loss,
        examples=len(y),
        samples=samples,
        per_class=[
            ClassScore(
                label=label.names[index] if label.names else str(index),
                examples=int(actual[index]),
                precision=float(hits[index] / max(claimed[index], 1)),
                recall=float(hits[index] / max(actual[index], 1)),
                f1=float(2 * hits[index] / max(actual[index] + claimed[index], 1)),
            )
            for index in range(label.classes)
        ],
        confusion=confusion.tolist(),
    )


def scorer(model: ModelSpec, x: np.ndarray, y: np.ndarray) -> Callable[[Weights], Score]:
    """A function from weights to their score on examples x float32 [n, ...] with labels y int64 [n].

    It raises DivergedError where the model's answers are not finite.
    """

    def score(weights: Weights) -> Score:
        scores = model.predict(weights, x)
        loss = _loss(scores, y)
        return Score(score=float((scores.argmax(axis=1) == y).mean()), loss=loss, examples=len(y))

    return score


def evaluate_state(
    model: ModelSpec,
    state: State,
    x: np.ndarray,
    y: np.ndarray,
    population: Population,
    runtime: ClientRuntime,
    deadline_seconds: float,
) -> Evaluation:
    """Evaluate the global weights of `state` on held-out examples, and at each client on its own.

    Args:
        model: what is trained.
        state: whose weights are evaluated.
        x: held-out examples, float32 [n, ...].
        y: their labels, int64 [n].
        population: the clients.
        runtime: reaches them.
        deadline_seconds: how long clients may take.

    Raises:
        DivergedError: the model's answers are not finite.
        RoundError: no client could evaluate the model.
    """
    held_out = evaluate(
        model.predict(state.weights, x), y, population.example.label, round=state.round, samples=state.samples
    )
    counts = {client.id: client for client in population.clients}
    clients, failed = [], {}
    for report in runtime.evaluate(state.weights, sorted(counts), deadline_seconds):
        score = _screened(report, counts[report.client])
        if isinstance(score, ClientScore):
            clients.append(score)
        else:
            failed[report.client] = score
    if not clients:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failed.items()))
        raise RoundError(f"no client can evaluate the model ({reasons}). Fix them, then run again")
    clients.sort(key=lambda client: client.id)
    return held_out.model_copy(update={"clients": clients, "failed": failed})


def _screened(report: EvaluationReport, held: ClientCounts) -> ClientScore | str:
    """The score in an untrusted report, or why it is not used."""
    if report.counts is None:
        return report.failure or "no report"
    examples, correct, loss = (_number(report.counts, key) for key in ("examples", "correct", "loss_sum"))
    if not 0 < examples <= held.test or not 0 <= correct <= examples or not 0 <= loss < math.inf:
        return f"claims {examples:g} test examples of {held.test}, {correct:g} correct, loss {loss:g}"
    return ClientScore(id=held.id, score=correct / examples, loss=loss / examples, examples=int(examples))


def _number(counts: Mapping[str, Any], key: str) -> float:
    value = counts.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _loss(scores: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy in nats of probabilities float32 [n, classes]."""
    if not np.isfinite(scores).all():
        raise DivergedError(
            "the model answers NaN: its training diverged; lower learning.client.learning_rate"
        )
    return float(-np.log(np.clip(scores[np.arange(len(y)), y], SMALLEST, 1.0)).mean(dtype=np.float64))
