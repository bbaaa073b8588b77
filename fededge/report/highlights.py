"""The figures at the top of the page and of the terminal summary, as far as the run has them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fededge.documents import RoundRecord
from fededge.report.content import Report
from fededge.report.formatting import count, difference, duration, money, score, size, titled
from fededge.report.rows import Severity


@dataclass(frozen=True)
class Highlight:
    """One figure, with a few words beside it."""

    label: str
    value: str
    note: str
    severity: Severity = "plain"


def highlights(report: Report) -> list[Highlight]:
    """Score, gap to centralized training, clients alone, rounds and what they took, variants, devices and time."""
    facts, final, found = report.facts, report.evaluation, []
    if final:
        note = f"held out, {count(final.examples)} examples"
        found.append(Highlight(titled(final.metric), score(final.score, final.metric), note))
        if len(final.clients) > 1 and final.worst_tenth is not None:
            tenth = max(1, len(final.clients) // 10)
            note = f"{'mean of the lowest ' + count(tenth) if tenth > 1 else 'the lowest'} of {count(len(final.clients))}"
            found.append(Highlight("Worst clients", score(final.worst_tenth, final.metric), note))
    if report.gap is not None:
        side = "below" if report.gap >= 0 else "above"
        found.append(
            Highlight(
                "Gap",
                difference(abs(report.gap), report.metric, signed=False),
                f"{side} centralized training",
            )
        )
    if facts.alone:
        note = (
            f"mean of {count(len(facts.alone.clients))}, best {score(facts.alone.best, facts.alone.metric)}"
        )
        found.append(Highlight("Alone", score(facts.alone.mean, facts.alone.metric), note))
    if facts.rounds:
        failed = sum(len(record.failed) for record in facts.rounds)
        note = f"of {report.task.learning.rounds}"
        if failed:
            note += f", {failed} failed report{'s' * (failed > 1)}"
        found.append(Highlight("Rounds", str(facts.rounds[-1].round), note, "warn" if failed else "plain"))
        found += _spent(facts.rounds)
    if report.variants:
        passed = [variant.bytes for variant in report.variants if variant.passed]
        note = f"of {len(report.variants)} passed"
        if passed:
            note += f"; smallest {size(min(passed))}"
        found.append(Highlight("Variants", str(len(passed)), note))
    if report.devices and (facts.release or facts.version):
        right = sum(device.severity == "good" for device in report.devices)
        note = f"of {len(report.devices)} run what was released"
        found.append(
            Highlight("Devices", str(right), note, "good" if right == len(report.devices) else "warn")
        )
    if report.seconds is not None:
        found.append(Highlight("Time", duration(report.seconds), f"{len(facts.steps)} steps"))
    return found


def _spent(rounds: Sequence[RoundRecord]) -> list[Highlight]:
    """What all rounds took, as far as it was measured."""
    sent, received = sum(r.bytes_sent for r in rounds), sum(r.bytes_received for r in rounds)
    worked = sum(record.client_seconds for record in rounds)
    found = []
    if sent or received:
        note = f"{size(sent)} to clients, {size(received)} back"
        found.append(Highlight("Transferred", size(sent + received), note))
    costs = [record.cost for record in rounds if record.cost is not None]
    if costs:
        note = f"by the task's prices; clients worked {duration(worked)}"
        found.append(Highlight("Cost", money(sum(costs)), note))
    return found
