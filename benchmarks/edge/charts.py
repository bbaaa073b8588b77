"""The experiment's charts, as SVG files that a page in Markdown can show, on a white ground."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from benchmarks.edge.paper import ACCURACY, PLATEAU

COLORS = {"global": "#1f5fbf", "node-1": "#2a9d5c", "node-2": "#b8860b", "node-3": "#c0392b"}


def accuracy(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Figures 4 and 5: accuracy by round, with the paper's global accuracy and plateau."""
    figure, axes = _axes("round", "accuracy")
    for name, color in COLORS.items():
        values = [row[name] for row in rows]
        style = "o-" if name == "global" else "-"
        axes.plot([row["round"] for row in rows], values, style, color=color, label=name, markersize=3)
    axes.axhline(ACCURACY["global"], color="#666", dashes=(4, 3), linewidth=1.2, label="paper, global")
    axes.axvline(PLATEAU, color="#666", dashes=(1, 2), linewidth=1.2, label="paper, plateau")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    _save(figure, file)


def seconds(rows: Sequence[Mapping[str, Any]], by: str, kinds: Sequence[str], file: Path) -> None:
    """Figures 6 and 7: seconds of each of `kinds` by epochs or images."""
    figure, axes = _axes(by, "seconds")
    places = [row[by] for row in rows]
    for kind, color in zip(kinds, ("#1f5fbf", "#c0392b", "#666"), strict=False):
        axes.plot(places, [row[kind] for row in rows], "o-", color=color, label=kind, markersize=4)
    if by == "images":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    _save(figure, file)


def _axes(across: str, up: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color="#ddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, file: Path) -> None:
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fededge"}):
        figure.savefig(file, metadata={"Date": None, "Creator": None})
