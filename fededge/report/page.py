"""The report as one HTML file without script and network: style and charts are in it."""

from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from fededge.report import charts, formatting, score_charts
from fededge.report.content import Report
from fededge.report.highlights import highlights

MAX_ROWS = 200
"""Rows shown of one table; the page says how many more there are."""
MAX_BARS = 30
"""Clients whose labels are drawn."""
MAX_CLASSES = 30
"""Classes up to which the confusion matrix is drawn."""
PALETTE = 10
"""Colors for labels; a data set with more classes uses them again."""
FILTERS = (
    formatting.score,
    formatting.percent,
    formatting.difference,
    formatting.titled,
    formatting.number,
    formatting.count,
    formatting.size,
    formatting.money,
    formatting.milliseconds,
    formatting.duration,
    formatting.short,
    formatting.timestamp,
    formatting.share,
)


def render(report: Report) -> bytes:
    """The page in UTF-8. Whatever comes from records is escaped."""
    facts = report.facts
    learned = (facts.rounds, facts.evaluations, facts.centralized)
    text = (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            facts=facts,
            highlights=highlights(report),
            style=Markup(_style()),
            score_chart=Markup(charts.rounds_chart(report.metric, *learned)),
            loss_chart=Markup(charts.rounds_chart("loss", *learned)),
            clients_chart=Markup(score_charts.clients_chart(report.evaluation)),
            residuals_chart=Markup(score_charts.residuals_chart(report.evaluation, report.unit)),
            roc_chart=Markup(score_charts.roc_chart(report.evaluation)),
            size_chart=Markup(charts.size_chart(report.variants)),
            label_counts=label_counts(report),
            palette=PALETTE,
            max_bars=MAX_BARS,
            max_classes=MAX_CLASSES,
            max_rows=MAX_ROWS,
            tracking_is_link=report.tracking.startswith(("http://", "https://")),
        )
    )
    return text.encode("utf-8", errors="replace")


def label_counts(report: Report) -> list[tuple[str, float, list[int]]]:
    """Clients with counted labels: id, training examples as a share of the largest client's, counts."""
    population = report.facts.population
    held = [client for client in (population.clients if population else []) if client.labels]
    largest = max((sum(client.labels) for client in held), default=0) or 1
    return [(client.id, sum(client.labels) / largest, client.labels) for client in held]


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
    environment.filters.update({filter_.__name__: filter_ for filter_ in FILTERS})
    return environment
