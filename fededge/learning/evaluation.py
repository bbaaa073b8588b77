"""How good a model is on held-out examples: accuracy, loss, per class, confusion, and at each client."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fededge import metrics
from fededge.documents import (
    ClassScore,
    ClientCounts,
    ClientScore,
    Evaluation,
    Label,
    Population,
    Schema,
    Score,
)
from fededge.errors import DivergedError, RoundError
from fededge.examples import floats
from fededge.learning.counting import counts
from fededge.learning.interfaces import ClientRuntime, EvaluationReport, ModelSpec
from fededge.learning.state import State
from fededge.metrics import METRIC
from fededge.weights import Weights


def evaluate(
    outputs: np.ndarray, x: np.ndarray, y: np.ndarray, schema: Schema, *, round: int = 0, samples: float = 0
) -> Evaluation:
    """What a model's answers `outputs` float32 [n, schema.outputs] to examples x are worth for stored labels y.

    Args:
        outputs: of an inference model.
        x: stored examples [n, *schema.shape].
        y: stored labels.
        schema: of the examples.
        round: after which the model was taken.
        samples: sample passes that training took until then.

    Raises:
        DivergedError: the answers are not finite.
    """
    label = schema.label
    scored = _score(outputs, x, y, schema)
    per_class, confusion = _by_class(outputs, y, label) if label.kind == "class" else ([], [])
    return Evaluation(
        round=round,
        metric=METRIC[label.kind],
        score=scored.score,
        loss=scored.loss,
        examples=len(x),
        samples=samples,
        per_class=per_class,
        confusion=confusion,
    )


def scorer(model: ModelSpec, schema: Schema, x: np.ndarray, y: np.ndarray) -> Callable[[Weights], Score]:
    """A function from weights to their score on stored examples x with labels y.

    It raises DivergedError where the model's answers are not finite.
    """
    return lambda weights: _score(model.predict(weights, x), x, y, schema)


def _score(outputs: np.ndarray, x: np.ndarray, y: np.ndarray, schema: Schema) -> Score:
    if not np.isfinite(outputs).all():
        raise DivergedError(
            "the model answers NaN: its training diverged; lower learning.client.learning_rate"
        )
    told = counts(schema, outputs, floats(x) if schema.label.kind == "none" else x, y)
    examples = told["examples"]
    return Score(
        score=metrics.score(schema.label.kind, examples, told),
        loss=told["loss_sum"] / examples,
        examples=int(examples),
    )


def _by_class(outputs: np.ndarray, y: np.ndarray, label: Label) -> tuple[list[ClassScore], list[list[int]]]:
    """Scores of each class, and counts by true and predicted class."""
    confusion = np.zeros((label.classes, label.classes), np.int64)
    np.add.at(confusion, (y, outputs.argmax(axis=1)), 1)
    hits, actual, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    rows = [
        ClassScore(
            label=label.names[index] if label.names else str(index),
            examples=int(actual[index]),
            precision=float(hits[index] / max(claimed[index], 1)),
            recall=float(hits[index] / max(actual[index], 1)),
            f1=float(2 * hits[index] / max(actual[index] + claimed[index], 1)),
        )
        for index in range(label.classes)
    ]
    return rows, confusion.tolist()


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
        x: held-out examples, as they are stored.
        y: their labels.
        population: the clients.
        runtime: reaches them.
        deadline_seconds: how long clients may take.

    Raises:
        DivergedError: the model's answers are not finite.
        RoundError: no client could evaluate the model.
    """
    held_out = evaluate(
        model.predict(state.weights, x), x, y, population.example, round=state.round, samples=state.samples
    )
    held = {client.id: client for client in population.clients}
    clients, failed = [], {}
    for report in runtime.evaluate(state.weights, sorted(held), deadline_seconds):
        score = _screened(report, held[report.client], population.example.label.kind)
        if isinstance(score, ClientScore):
            clients.append(score)
        else:
            failed[report.client] = score
    if not clients:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failed.items()))
        raise RoundError(f"no client can evaluate the model ({reasons}). Fix them, then run again")
    clients.sort(key=lambda client: client.id)
    return held_out.model_copy(update={"clients": clients, "failed": failed})


def _screened(report: EvaluationReport, held: ClientCounts, kind: str) -> ClientScore | str:
    """The score in an untrusted report, or why it is not used."""
    if report.counts is None:
        return report.failure or "no report"
    examples, loss = (_number(report.counts, key) for key in ("examples", "loss_sum"))
    sums = {name: _number(report.counts, name) for name in metrics.SUMS[kind]}
    if not 0 < examples <= held.test or not 0 <= loss < math.inf or metrics.mistake(kind, examples, sums):
        told = ", ".join(f"{name} {value:g}" for name, value in sums.items())
        return f"claims {examples:g} test examples of {held.test}, loss {loss:g}, {told}"
    score = metrics.score(kind, examples, sums)
    return ClientScore(id=held.id, score=score, loss=loss / examples, examples=int(examples))


def _number(counts: Mapping[str, Any], key: str) -> float:
    value = counts.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
