"""The conditions of a gate as rows of a table: what the task asks of the model, and what it reached."""

from dataclasses import dataclass

from fededge.documents import GateDecision
from fededge.metrics import behind
from fededge.report.formatting import count, difference, number, score, titled
from fededge.task import Gate

TESTS = {"mcnemar": "McNemar's test", "signs": "paired test by random signs"}


@dataclass(frozen=True)
class Condition:
    """One condition of the gate, in words."""

    name: str
    reached: str
    asked: str


def conditions(decision: GateDecision | None, gate: Gate) -> list[Condition]:
    """What `gate` asked of the model that was decided on, and what it reached; empty before there is a decision."""
    if decision is None:
        return []
    metric, reached = decision.metric, score(decision.score, decision.metric)
    asked = [
        f"{word} {score(limit, metric)}"
        for word, limit in (("at least", gate.min), ("at most", gate.max))
        if limit is not None
    ]
    rows = [Condition(titled(metric), reached, ", ".join(asked) or "no limit")]
    if decision.centralized is not None:
        gap = behind(metric, decision.score, decision.centralized)
        rows.append(_behind("Behind centralized training", metric, gap, gate.max_gap_to_centralized))
    if champion := decision.champion:
        lost = None if champion.score is None else behind(metric, decision.score, champion.score)
        name = f"Behind the champion, version {champion.version}"
        rows.append(_behind(name, metric, lost, gate.max_loss_against_champion))
    if compared := decision.comparison:
        if compared.p_value is None:
            rows.append(Condition("Better than the champion", "not tested", compared.note))
        else:
            found = f"p {number(compared.p_value, 3)}, {count(compared.examples)} examples"
            rows.append(Condition("Better than the champion", found, f"{TESTS[compared.test]}, p below 0.05"))
    if gate.min_examples is not None and decision.examples is not None:
        rows.append(Condition("Examples", count(decision.examples), f"at least {count(gate.min_examples)}"))
    return rows


def _behind(name: str, metric: str, lost: float | None, limit: float | None) -> Condition:
    most = "no limit" if limit is None else f"at most {difference(limit, metric, signed=False)}"
    return Condition(name, difference(lost, metric, signed=False), most)
