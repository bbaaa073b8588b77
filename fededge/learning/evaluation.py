"""How good a model is: on held-out examples, and at each client, which hands in sums alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fededge import counting, metrics, paired
from fededge.client_reports import EvaluationReport
from fededge.documents import ClientCounts, ClientScore, Evaluation, Population, Schema, Score
from fededge.encoding import targets
from fededge.errors import DivergedError, RoundError
from fededge.examples import floats
from fededge.learning import figures, named_metrics
from fededge.learning.figures import Answers
from fededge.learning.interfaces import ClientRuntime, ModelSpec
from fededge.learning.state import State
from fededge.weights import Weights


def evaluate(
    outputs: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    schema: Schema,
    *,
    round: int = 0,
    samples: float = 0,
    named: Sequence[str] = (),
    code: str | None = None,
) -> Evaluation:
    """What `outputs` float32 [n, schema.outputs] of an inference model are worth.

    Args:
        outputs: of the model, for the examples.
        x: examples as stored.
        y: their labels as stored.
        schema: of the examples.
        round: after which the model was taken.
        samples: sample passes that training took until then.
        named: metrics beyond the usual ones of the label's kind; see fededge.learning.named_metrics.
        code: folder with the modules of the user's own metrics.

    Raises:
        DivergedError: the outputs are not finite.
        TaskError: a named metric is unknown or does not score such labels.
    """
    _check_finite(outputs)
    answers, kind = Answers(schema, outputs, x, y), schema.label.kind
    values = figures.figures(answers)
    values |= {name: named_metrics.evaluate(name, answers, code) for name in named if name not in values}
    return Evaluation(
        round=round,
        metric=metrics.METRIC[kind],
        score=answers.score,
        loss=values["loss"],
        metrics=values,
        examples=len(outputs),
        errors=paired.pack(answers.errors),
        samples=samples,
        per_class=figures.per_class(answers) if kind in ("class", "multi-label") else [],
        confusion=figures.confusion(answers).tolist() if kind == "class" else [],
        roc=figures.roc(answers),
        quantiles=figures.quantiles(answers),
        residuals=figures.residuals(answers),
    )


def scorer(model: ModelSpec, schema: Schema, x: np.ndarray, y: np.ndarray) -> Callable[[Weights], Score]:
    """A function from weights to their score on stored examples x with labels y of `schema`.

    It raises DivergedError where the model's answers are not finite.
    """
    wanted = targets(schema, floats(x) if schema.label.kind == "none" else x, y)

    def score(weights: Weights) -> Score:
        outputs = model.predict(weights, x)
        _check_finite(outputs)
        sums = counting.sums(schema, outputs, wanted)
        return Score(
            score=metrics.score(schema.label.kind, len(y), sums),
            loss=float(counting.losses(schema, outputs, wanted).mean()),
            examples=len(y),
        )

    return score


def evaluate_state(
    model: ModelSpec,
    state: State,
    x: np.ndarray,
    y: np.ndarray,
    population: Population,
    clients: Sequence[ClientCounts],
    runtime: ClientRuntime,
    deadline_seconds: float,
    named: Sequence[str] = (),
    code: str | None = None,
) -> Evaluation:
    """Evaluate the global weights of `state` on held-out examples, and at each client on its own.

    Args:
        model: what is trained.
        state: whose weights are evaluated.
        x: held-out examples as stored.
        y: their labels.
        population: says what an example is, and which were held out.
        clients: that are asked.
        runtime: reaches them.
        deadline_seconds: how long clients may take.
        named: metrics beyond the usual ones, on the held-out examples; `code` as for `evaluate`.
        code: folder with the modules of the user's own metrics.

    Raises:
        DivergedError: the model's answers are not finite.
        RoundError: no client could evaluate the model.
        TaskError: a named metric is unknown or does not score such labels.
    """
    schema = population.example
    held_out = evaluate(
        model.predict(state.weights, x),
        x,
        y,
        schema,
        round=state.round,
        samples=state.samples,
        named=named,
        code=code,
    )
    counts = {client.id: client for client in clients}
    scored, failed = [], {}
    for report in runtime.evaluate(state.weights, state.round, sorted(counts), deadline_seconds):
        score = _screened(report, counts[report.client], schema.label.kind)
        if isinstance(score, ClientScore):
            scored.append(score)
        else:
            failed[report.client] = score
    if not scored:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failed.items()))
        raise RoundError(f"no client can evaluate the model ({reasons}). Fix them, then run again")
    scored.sort(key=lambda client: client.id)
    scores = np.sort([client.score for client in scored])
    found = {
        "clients": scored,
        "failed": failed,
        "worst_tenth": float(scores[: max(1, len(scores) // 10)].mean()),
        "spread": float(scores.std()),
        "test_digest": population.test_digest,
    }
    return held_out.model_copy(update=found)


def _screened(report: EvaluationReport, held: ClientCounts, kind: str) -> ClientScore | str:
    """The score in an untrusted report, or why it is not used."""
    if report.counts is None:
        return report.failure or "no report"
    examples, loss = (_number(report.counts, key) for key in ("examples", "loss_sum"))
    sums = {name: _number(report.counts, name) for name in metrics.SUMS[kind]}
    wrong = metrics.mistake(kind, examples, sums)
    if not 0 < examples <= held.test or wrong or not 0 <= loss < math.inf:
        told = ", ".join(f"{name} {value:g}" for name, value in sums.items())
        return f"claims {examples:g} test examples of {held.test}, {told}, loss {loss:g}"
    return ClientScore(
        id=held.id, score=metrics.score(kind, examples, sums), loss=loss / examples, examples=int(examples)
    )


def _number(counts: Mapping[str, Any], key: str) -> float:
    value = counts.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def _check_finite(outputs: np.ndarray) -> None:
    if not np.isfinite(outputs).all():
        raise DivergedError(
            "the model answers NaN: its training diverged; lower learning.client.learning_rate"
        )
