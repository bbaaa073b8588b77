"""The report as one HTML file that needs nothing else: no script, no network, style and charts inside."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from fededge.report import charts
from fededge.report.content import Highlight, Report

NONE = "–"
MOST_ROWS = 200
"""Rows shown of one table; the page says how many more there are."""
MOST_BARS = 30
"""Clients whose labels are drawn."""
PALETTE = 10
"""Colors for labels; a data set with more classes uses them again."""


def render(report: Report) -> bytes:
    """The page in UTF-8. Whatever comes from records is escaped."""
    facts = report.facts
    learned = (facts.rounds, facts.evaluations, facts.centralized)
    page = _environment().get_template("report.html")
    text = page.render(
        report=report,
        facts=facts,
        highlights=highlights(report),
        style=Markup(_style()),
        accuracy_chart=Markup(charts.rounds_chart("accuracy", *learned)),
        loss_chart=Markup(charts.rounds_chart("loss", *learned)),
        size_chart=Markup(charts.size_chart(report.variants)),
        holdings=holdings(report),
        palette=PALETTE,
        most_bars=MOST_BARS,
        most_rows=MOST_ROWS,
        tracking_is_link=report.tracking.startswith(("http://", "https://")),
    )
    return text.encode("utf-8", errors="replace")


def holdings(report: Report) -> list[tuple[str, float, list[int]]]:
    """Clients with counted labels: id, training examples as a share of the largest client's, counts."""
    held = [client for client in (report.facts.data.clients if report.facts.data else []) if client.labels]
    largest = max((sum(client.labels) for client in held), default=0) or 1
    return [(client.id, sum(client.labels) / largest, client.labels) for client in held]


def highlights(report: Report) -> list[Highlight]:
    """The figures at the top, as far as the run has them."""
    facts, final, found = report.facts, report.evaluation, []
    if final:
        found.append(
            Highlight("Accuracy", percent(final.accuracy), f"held out, {count(final.examples)} examples")
        )
    if report.gap is not None:
        side = "below" if report.gap >= 0 else "above"
        found.append(Highlight("Gap", f"{abs(report.gap) * 100:.2f} pp", f"{side} centralized training"))
    if facts.rounds:
        lost = sum(len(record.failed) for record in facts.rounds)
        note = f"of {report.task.learning.rounds}" + (
            f", {lost} failed report{'s' * (lost > 1)}" if lost else ""
        )
        found.append(Highlight("Rounds", str(facts.rounds[-1].round), note, "warn" if lost else "plain"))
    if report.variants:
        passed = [variant for variant in report.variants if variant.passed]
        smallest = min((variant.bytes for variant in passed if variant.bytes), default=None)
        note = f"of {len(report.variants)} passed; smallest {size(smallest)}"
        found.append(Highlight("Variants", str(len(passed)), note))
    if report.devices and facts.version:
        right = sum(device.mood == "good" for device in report.devices)
        note = f"of {len(report.devices)} run what was released"
        found.append(
            Highlight("Devices", str(right), note, "good" if right == len(report.devices) else "warn")
        )
    if report.seconds is not None:
        found.append(Highlight("Time", duration(report.seconds), f"{len(facts.steps)} steps"))
    return found


def percent(value: float | None, digits: int = 2) -> str:
    """A share as percent: 0.9806 -> 98.06 %."""
    return NONE if value is None else f"{value * 100:.{digits}f} %"


def points(value: float | None, signed: bool = True) -> str:
    """A difference of two shares in percentage points: -0.0055 -> −0.55 pp."""
    if value is None:
        return NONE
    return f"{value * 100:{'+' if signed else ''}z.2f} pp".replace("-", "−").replace("+0.00 ", "0.00 ")


def number(value: float | None, digits: int = 4) -> str:
    """A figure with `digits` decimals."""
    return NONE if value is None else f"{value:,.{digits}f}"


def count(value: int | None) -> str:
    """A whole number with thousands separated."""
    return NONE if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Bytes in decimal units: 324400 -> 324 kB."""
    if value is None:
        return NONE
    if value < 1000:
        return f"{value} B"
    return f"{value / 1000:,.0f} kB" if value < 999_500 else f"{value / 1e6:,.2f} MB"


def milliseconds(value: float | None) -> str:
    """A latency in ms to three significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.3f} ms" if value < 1 else f"{value:.2f} ms" if value < 10 else f"{value:,.1f} ms"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 0.42 s, 13.5 s, 3 min 12 s, 2 h 5 min."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def short(digest: str | None) -> str:
    """The first twelve characters of a digest, without its algorithm."""
    return (digest or "").removeprefix("sha256:")[:12] or NONE


def moment(value: datetime | None) -> str:
    """A time in UTC to the second."""
    return NONE if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def fact(value: object) -> str:
    """One value of a record of any type, as a person says it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def share(part: float, whole: Sequence[int]) -> float:
    """`part` of the sum of `whole`, for shading; 0 where there is nothing."""
    return part / max(sum(whole), 1)


@cache
def _style() -> str:
    return (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (percent, points, number, count, size, milliseconds, duration, short, moment, fact, share):
        environment.filters[filter_.__name__] = filter_
    return environment
