"""What every chart of the report is drawn with: inline SVG by matplotlib in the page's own colors.

A chart is drawn in placeholder colors that become CSS variables, so it follows the page from light
to dark. Text stays text: it can be searched and copied. A title and a description stand for the chart
where it cannot be seen. The same figures give the same bytes every time.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
COLORS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "federated": "#0a0b04",
    "training": "#0a0b05",
    "centralized": "#0a0b06",
    "good": "#0a0b07",
    "bad": "#0a0b08",
    "card": "#0a0b09",
    **{f"label-{number}": f"#0a0b1{number}" for number in range(10)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fededge",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.axisbelow": True,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["line"],
    "ytick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.labelcolor": COLORS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


@contextlib.contextmanager
def styled(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure of so many inches, drawn in the page's style while the context lasts."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        yield figure, axes


def legend(figure: Figure) -> None:
    """The legend, above the axes."""
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


def label(text: str) -> str:
    """`text` as a chart has room for it and XML can hold it."""
    shown = text if len(text) <= 24 else f"{text[:23]}…"
    return "".join(character if character.isprintable() else "?" for character in shown)


def svg(figure: Figure, name: str, title: str, description: str) -> str:
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
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    root.set("class", "chart")
    for position, (tag, content) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = content
        root.insert(position, element)
    text = ElementTree.tostring(root, encoding="unicode")
    for role, color in COLORS.items():
        text = text.replace(color, f"var(--{role})")
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
