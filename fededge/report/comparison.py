"""Runs beside each other: the parameters in which they differ, their last metrics, and a page with both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from fededge.report import charts
from fededge.report.formatting import titled
from fededge.tracking.run import TrackedRun

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A parameter or metric and its value in each run, None where a run has none."""

    name: str
    values: list[str | float | None]


@dataclass(frozen=True)
class Comparison:
    """What tells runs apart.

    Attributes:
        runs: their ids.
        parameters: those that are not the same in all of them.
        metrics: the last value of each, in every run that has it.
        metric: of the scores, of the first run.
        scores: by run with that metric, the score on held-out data by round.
    """

    runs: list[str]
    parameters: list[Row]
    metrics: list[Row]
    metric: str
    scores: dict[str, list[tuple[int, float]]]

    @property
    def rows(self) -> list[Row]:
        """Parameters, then metrics."""
        return [*self.parameters, *self.metrics]

    def page(self) -> bytes:
        """One HTML file in UTF-8, without script and network."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        text = environment.get_template("comparison.html").render(
            comparison=self,
            chart=Markup(charts.runs_chart(self.metric, self.scores)),
            title=titled(self.metric),
            style=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
        )
        return text.encode("utf-8", errors="replace")


def compare(runs: Sequence[str]) -> Comparison:
    """Compare pipeline runs by what MLflow has of them.

    Raises:
        TrackingError: MLflow cannot be reached, or does not know one of them.
    """
    tracked = [TrackedRun.find(run) for run in runs]
    metric = tracked[0].metric
    parameters = _rows([each.parameters for each in tracked])
    return Comparison(
        runs=list(runs),
        parameters=[row for row in parameters if len(set(row.values)) > 1],
        metrics=_rows([each.metrics for each in tracked]),
        metric=metric,
        scores={run: each.held_out for run, each in zip(runs, tracked, strict=True) if each.metric == metric},
    )


def _rows(found: Sequence[dict[str, str]] | Sequence[dict[str, float]]) -> list[Row]:
    names = sorted({name for values in found for name in values})
    return [Row(name, [values.get(name) for values in found]) for name in names]
