"""The report's charts as images of their own, which MLflow shows among a run's artifacts."""

import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from fededge.errors import shown
from fededge.report import charts, score_charts
from fededge.report.content import Report
from fededge.report.page import MAX_CLASSES

WIDTH = 24
"""Characters of a class's name."""


def plots(report: Report) -> dict[str, bytes]:
    """SVG images by file name, of what the run has; the same bytes every time.

    Among them are scores and loss by round, those of the clients and of the variants, and the confusion matrix.
    """
    facts, found = report.facts, report.evaluation
    learned = (facts.rounds, facts.evaluations, facts.centralized)
    drawn = {
        "scores": charts.rounds_chart(report.metric, *learned),
        "loss": charts.rounds_chart("loss", *learned),
        "clients": score_charts.clients_chart(found),
        "residuals": score_charts.residuals_chart(found, report.unit),
        "roc": score_charts.roc_chart(found),
        "variants": charts.size_chart(report.variants),
    }
    images = {f"{name}.svg": _alone(svg).encode() for name, svg in drawn.items() if svg}
    if found and 0 < len(found.confusion) <= MAX_CLASSES:
        names = [shown(report.class_name(place), WIDTH) for place in range(len(found.confusion))]
        images["confusion.svg"] = confusion_image(np.array(found.confusion), names)
    return images


def confusion_image(counts: np.ndarray, names: list[str]) -> bytes:
    """An SVG image of counts [true class, predicted class], each row shaded by its shares."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.0 + 0.45 * len(names)
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "fededge", "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.add_subplot(aspect="equal", xlabel="predicted", ylabel="true")
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white")
        axes.invert_yaxis()
        places = np.arange(len(names)) + 0.5
        axes.set_xticks(places, names, rotation=90)
        axes.set_yticks(places, names)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column + 0.5, row + 0.5, f"{count}", ha="center", va="center", color=color, fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _alone(svg: str) -> str:
    """A chart of the page in the page's light colors, on white."""
    colored = re.sub(r"var\(--([a-z0-9-]+)\)", lambda name: _colors().get(name[1], "sans-serif"), svg)
    return colored.replace("<svg ", '<svg style="background:#ffffff" ', 1)


@cache
def _colors() -> dict[str, str]:
    """The light colors of the page's style, by their names."""
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", style.split("@media")[0]))
