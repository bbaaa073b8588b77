"""The report's charts: inline SVG by matplotlib in the page's own colors, the same bytes every time.

A chart is drawn in placeholder colors that become CSS variables, so it follows the page from light
to dark. Text stays text: it can be searched, read aloud and copied.
"""

import io
import math
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from fededge.report.records import Evaluation, Measurement, Round

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_COLORS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "federated": "#0a0b04",
    "training": "#0a0b05",
    "centralized": "#0a0b06",
    "good": "#0a0b07",
    "bad": "#0a0b08",
    "card": "#0a0b09",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fededge",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _COLORS["line"],
    "axes.labelcolor": _COLORS["muted"],
    "axes.axisbelow": True,
    "grid.color": _COLORS["line"],
    "grid.linewidth": 0.6,
    "text.color": _COLORS["ink"],
    "xtick.color": _COLORS["line"],
    "ytick.color": _COLORS["line"],
    "xtick.labelcolor": _COLORS["muted"],
    "ytick.labelcolor": _COLORS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


def rounds_chart(
    metric: str,
    rounds: Sequence[Round],
    evaluations: Sequence[Evaluation],
    centralized: Evaluation | None,
) -> str:
    """Accuracy or loss by round, training and held-out, with centralized training as a level.

    Args:
        metric: "accuracy" or "loss".
        rounds: training metrics of each round.
        evaluations: the global model on held-out data.
        centralized: the comparison, if it was trained: a line where each pass was scored, else a level.

    Returns:
        An SVG element; "" where there is nothing to draw.
    """
    training = _points([(found.round, getattr(found, metric)) for found in rounds])
    tested = _points([(found.round or 0, getattr(found, metric)) for found in evaluations])
    tested = [point for point in tested if point[0] > 0] or tested  # the untrained model would set the scale
    level = _number(getattr(centralized, metric) if centralized else None)
    passes = _points(
        [(found.round, getattr(found, metric)) for found in centralized.passes] if centralized else []
    )
    if not training and not tested:
        return ""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(5.2, 3.0)
        beside: dict[str, Any] = {
            "color": _COLORS["centralized"],
            "dashes": (4, 3),
            "label": "centralized, held out",
        }
        if passes:
            axes.plot(*zip(*passes, strict=True), **beside)
        elif level is not None:
            axes.axhline(level, **beside)
        if training:
            axes.plot(*zip(*training, strict=True), color=_COLORS["training"], label="clients, training")
        if tested:
            axes.plot(
                *zip(*tested, strict=True), "o-", color=_COLORS["federated"], label="federated, held out"
            )
            axes.annotate(
                f"{tested[-1][1]:.2%}".replace("%", " %") if metric == "accuracy" else f"{tested[-1][1]:.4f}",
                tested[-1],
                xytext=(4, -11) if metric == "accuracy" else (4, 9),
                textcoords="offset points",
                ha="right",
                va="center",
                color=_COLORS["federated"],
            )
        axes.margins(y=0.15)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
        if metric == "accuracy":
            lowest = axes.get_ylim()[0]
            axes.yaxis.set_major_formatter(
                PercentFormatter(1.0, decimals=0 if lowest < 0.9 else 1, symbol=" %")
            )
            axes.set_ylim(top=1.0 + (1.0 - lowest) * 0.03)
        else:
            axes.set_ylim(bottom=0)
        _legend(figure)
        said = [f"{metric.capitalize()} by round."]
        if tested:
            said.append(f"Federated on held-out data after round {tested[-1][0]}: {tested[-1][1]:.4f}.")
        if level is not None:
            said.append(f"Centralized: {level:.4f}.")
        return _svg(figure, f"{metric}-by-round", f"{metric.capitalize()} by round", " ".join(said))


def size_chart(variants: Sequence[Measurement]) -> str:
    """Accuracy of each variant over its size in bytes; "" where none was measured."""
    measured = [
        (found, found.bytes, found.accuracy)
        for found in variants
        if found.bytes and found.accuracy is not None and math.isfinite(found.accuracy)
    ]
    if not measured:
        return ""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(5.2, 3.0)
        heights = [accuracy for _, _, accuracy in measured]
        room = max(max(heights) - min(heights), 0.002)
        axes.set_xlim(0, max(size for _, size, _ in measured) * 1.15)
        axes.set_ylim(min(heights) - room * 0.4, max(heights) + room * 0.8)
        taken: list[tuple[float, float]] = []
        for found, size, accuracy in sorted(measured, key=lambda item: (item[1], item[0].kind)):
            passed = found.passed is not False
            axes.plot(
                size,
                accuracy,
                "o" if passed else "X",
                markersize=8,
                color=_COLORS["good" if passed else "bad"],
                markeredgecolor=_COLORS["card"],
            )
            x, y = axes.transAxes.inverted().transform(axes.transData.transform((size, accuracy)))
            while any(abs(x - left) < 0.17 and abs(y - height) < 0.085 for left, height in taken):
                y += 0.085  # labels of variants of one size and accuracy stand above each other
            taken.append((x, y))
            axes.annotate(
                _label(found.kind),
                (x, y),
                xycoords="axes fraction",
                xytext=(0, 11),
                textcoords="offset points",
                ha="center",
                va="center",
            )
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}"))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=2, symbol=" %"))
        axes.set_xlabel("size in kB")
        axes.grid()
        said = "; ".join(
            f"{_label(found.kind)} {size:,} bytes, {accuracy:.4f}" for found, size, accuracy in measured
        )
        return _svg(figure, "size-accuracy", "Size and accuracy of the variants", said + ".")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _legend(figure: Figure) -> None:
    figure.legend(
        loc="outside upper left",
        ncols=3,
        handlelength=1.5,
        handletextpad=0.4,
        columnspacing=1.1,
        borderaxespad=0,
        borderpad=0,
        fontsize=9.5,
    )


def _points(pairs: Sequence[tuple[int, Any]]) -> list[tuple[int, float]]:
    return [(step, value) for step, found in pairs if (value := _number(found)) is not None]


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _label(text: str) -> str:
    """`text` as a chart has room for it and XML can hold it."""
    shown = text if len(text) <= 24 else f"{text[:23]}…"
    return "".join(character if character.isprintable() else "?" for character in shown)


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an SVG element that scales, has a title and shares no id with other charts."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for found in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(found)
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    names = {reference for pair in used for reference in pair if reference}
    for element in root.iter():
        mark = element.get("id")
        if mark in names:
            element.set("id", f"{name}-{mark}")
        elif mark is not None:
            del element.attrib["id"]
        for attribute, value in element.attrib.items():
            if value.startswith("#") and value[1:] in names:
                element.set(attribute, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{name}-"))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labeledby", f"{name}-title {name}-desc")
    root.set("class", "chart")
    for position, (tag, said) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = said
        root.insert(position, element)
    text = ElementTree.tostring(root, encoding="unicode")
    for role, color in _COLORS.items():
        text = text.replace(color, f"var(--{role})")
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
