"""The report in a real browser: on phones, desktops and paper, in light and dark, and for a screen reader."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge.report import render, report_of
from tests.fededge.report.chromium import CHROMIUM, Tab, browser
from tests.fededge.report.example import (
    COMPARED,
    DEVICES,
    RECORDS,
    changed,
    device,
    ended,
    report,
    step,
)
from tests.fededge.report.html_page import Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH")

LONG = "site-" + "x" * 300
A4 = 688
"""CSS pixels between the margins of a page of paper."""
MEASURE = """(() => {
  const root = document.documentElement;
  const inside = [...document.querySelectorAll("body *")].filter(e =>
    !e.closest("svg, pre, .track, .stack") && (%s || !e.closest(".scroll")));
  return {
    width: root.clientWidth, content: root.scrollWidth,
    past: inside.filter(e => e.getBoundingClientRect().right > root.clientWidth + 1)
      .map(e => e.outerHTML.slice(0, 80)),
    charts: [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().width),
  };
})()"""
BACKGROUND = "getComputedStyle(document.%s).backgroundColor.match(/[0-9.]+/g).map(Number)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole and a failed report, and one whose texts are too long for their places."""
    folder = tmp_path_factory.mktemp("pages")
    client = {"id": LONG[:200], "train": 3, "test": 0, "labels": [1, 2]}
    unruly = {
        **RECORDS,
        **changed("data", clients=[client]),
        **changed("variant-int8", kind=LONG, bytes=10**15, reasons=[LONG]),
        **changed("endpoint", name=LONG, rest=f"http://{LONG}"),
        **step(LONG, error=LONG),
        "gate": None,
    }
    long_device = device("d" * 64, kind="k" * 40, status="failed", error=LONG, **{"class": "c" * 64})
    failed = {**step("prepare_data", error=f"{LONG} <script>alert(1)</script>"), **ended("FAILED")}
    link = "https://mlflow.example/#/runs/1"
    reports = {
        "whole": report(RECORDS, DEVICES, link, COMPARED),
        "failed": report(failed),
        "unruly": report_of(COMPARED, LONG, f"https://{LONG}", report(unruly, [long_device]).facts),
    }
    for name, found in reports.items():
        (folder / f"{name}.html").write_bytes(render(found))
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as tab:
        yield tab


def measured(tab: Tab, page: Path, width: int, media: str = "screen") -> dict[str, Any]:
    """Widths in CSS pixels of window, content and charts, and what reaches past the window.

    On paper nothing can be scrolled, so what lies in a frame that scrolls counts there, too.
    """
    tab.open(page, width, media)
    found: dict[str, Any] = tab.evaluate(MEASURE % ("true" if media == "print" else "false"))
    return found


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["whole", "failed", "unruly"])
def test_the_page_fits_its_window(tab: Tab, pages: dict[str, Path], name: str, width: int) -> None:
    found = measured(tab, pages[name], width)
    assert found["past"] == []
    assert found["content"] <= found["width"] <= width
    assert len(found["charts"]) == (0 if name == "failed" else 4)
    assert all(width * 0.3 < chart < width for chart in found["charts"])


@pytest.mark.parametrize("name", ["whole", "failed", "unruly"])
def test_on_paper_no_table_is_cut(tab: Tab, pages: dict[str, Path], name: str) -> None:
    assert measured(tab, pages[name], A4, "print")["past"] == []


def shade(tab: Tab, page: Path, scheme: str, media: str = "screen", element: str = "body") -> float:
    """Brightness of the background from 0 to 255; what is transparent shows white paper."""
    tab.open(page, media=media, scheme=scheme)
    red, green, blue, *opacity = tab.evaluate(BACKGROUND % element)
    return 255.0 if opacity == [0] else (red + green + blue) / 3


def test_the_page_follows_light_and_dark_and_is_light_on_paper(tab: Tab, pages: dict[str, Path]) -> None:
    whole = pages["whole"]
    assert shade(tab, whole, "light") > 200
    assert shade(tab, whole, "dark") < 50
    for element in ("body", "querySelector('section')", "querySelector('.badge')"):
        assert shade(tab, whole, "dark", "print", element) > 200


def test_on_paper_the_link_is_visible_and_what_is_folded_is_open(tab: Tab, pages: dict[str, Path]) -> None:
    height = "document.querySelector('details table').getBoundingClientRect().height"
    seen = "document.querySelector('details table').checkVisibility({contentVisibilityAuto: true})"
    tab.open(pages["whole"])
    assert not tab.evaluate(seen)
    tab.open(pages["whole"], A4, media="print")
    assert tab.evaluate(f"{seen} && {height} > 100")
    assert tab.evaluate("document.querySelector('a').innerText").startswith("https://mlflow.example/")
    assert "underline" in tab.evaluate("getComputedStyle(document.querySelector('a')).textDecorationLine")
    assert b"/URI (https://mlflow.example/" in tab.printed()


def test_a_screen_reader_is_told_names_of_all_parts(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["whole"])
    told = tab.accessible()
    roles = Counter(role for role, _ in told)
    assert roles["main"] == roles["banner"] == roles["contentinfo"] == 1
    tables = [name for role, name in told if role == "table"]
    captions = [" ".join(t.caption.split()) for t in Page(pages["whole"].read_text()).tables]
    assert set(tables) <= set(captions)
    assert len(tables) >= len(captions) - 2  # two are folded away
    pictures = [name for role, name in told if role in ("image", "img", "graphics-document")]
    assert len(pictures) >= 3 + 2 * 3
    assert all(pictures)
    assert any("Federated on held-out data" in name for name in pictures)
    assert roles["columnheader"] > 30
    assert roles["rowheader"] > 30


def test_the_page_asks_for_nothing_and_the_console_stays_empty(tab: Tab, pages: dict[str, Path]) -> None:
    for page in pages.values():
        tab.open(page)
        assert tab.evaluate("document.querySelector('h1').innerText")
        assert tab.requested() == [page.as_uri()]
        assert tab.complaints() == []
