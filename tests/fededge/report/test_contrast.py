"""Enough contrast in light and dark, computed from the style sheet: WCAG 2.2, 1.4.3 (AA) and 1.4.11."""

import re
from pathlib import Path

import pytest

import fededge.report

STYLE = (Path(fededge.report.__file__).parent / "report.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6}|\d+ \d+ \d+)", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
)
SCHEMES = pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
Color = tuple[float, float, float]


def color(scheme: dict[str, str], name: str) -> Color:
    value = scheme[name]
    parts = [int(value[i : i + 2], 16) for i in (1, 3, 5)] if value[0] == "#" else map(int, value.split())
    red, green, blue = parts
    return red, green, blue


def mixed(over: Color, under: Color, share: float) -> Color:
    red, green, blue = (a * share + b * (1 - share) for a, b in zip(over, under, strict=True))
    return red, green, blue


def luminance(found: Color) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in found)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ratio(one: Color, other: Color) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_that_of_the_guidelines() -> None:
    assert ratio((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert ratio((0x77, 0x77, 0x77), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@SCHEMES
@pytest.mark.parametrize(
    ("text", "behind"),
    [
        ("ink", "page"),
        ("ink", "card"),
        ("ink", "line"),
        ("ink", "bad-soft"),
        ("muted", "page"),
        ("muted", "card"),
        ("federated", "card"),
        ("good", "good-soft"),
        ("warn", "warn-soft"),
        ("bad", "bad-soft"),
        ("bad", "card"),
    ],
)
def test_text_can_be_read(scheme: dict[str, str], text: str, behind: str) -> None:
    assert ratio(color(scheme, text), color(scheme, behind)) >= 4.5


@SCHEMES
def test_figures_in_the_confusion_matrix_can_be_read(scheme: dict[str, str]) -> None:
    card, ink = color(scheme, "card"), color(scheme, "ink")
    (heat,) = map(float, re.findall(r"rgb\(var\(--heat\) / calc\(var\(--v\) \* ([.\d]+)\)\)", STYLE))
    ((least, more),) = re.findall(r"var\(--bad\) calc\((\d+)% \+ var\(--v\) \* (\d+)%\)", STYLE)
    (zero,) = re.findall(r"td\.zero \{ .*?var\(--line\) (\d+)%", STYLE)
    assert ratio(ink, mixed(color(scheme, "heat"), card, heat)) >= 4.5
    assert ratio(ink, mixed(color(scheme, "bad"), card, (int(least) + int(more)) / 100)) >= 4.5
    assert ratio(color(scheme, "muted"), mixed(color(scheme, "line"), card, int(zero) / 100)) >= 4.5


@SCHEMES
@pytest.mark.parametrize("line", ["federated", "training", "centralized", "good", "bad"])
def test_what_charts_draw_can_be_seen(scheme: dict[str, str], line: str) -> None:
    assert ratio(color(scheme, line), color(scheme, "card")) >= 3


@SCHEMES
def test_colors_of_labels_can_be_seen(scheme: dict[str, str]) -> None:
    labels = [color(scheme, f"label-{number}") for number in range(10)]
    assert len(set(labels)) == 10
    assert min(ratio(found, color(scheme, "card")) for found in labels) >= 3


def test_both_schemes_name_the_same_colors() -> None:
    assert LIGHT.keys() == DARK.keys()
