"""The report as a page: complete, self-contained, and safe whatever the records hold."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fededge.report import Report, charts, read, report_of
from fededge.report import page as pages
from fededge.report import render as page_of
from fededge.report.records import Evaluation, Round
from fededge.report.rows import MESSAGE_LIMIT
from fededge.task import FederatedTask

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')
VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = (
    '"><script>alert(1)</script><img src=x onerror=alert(1)> $\\frac{1}{0}$ {{ 7*7 }} &amp; \x00\x1b[31m'
)


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on an element that is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


def render(report: Report) -> str:
    return page_of(report).decode()


def report(records: dict[str, Any], devices: dict[str, Any] | None = None, url: str = "mlflow ui") -> Report:
    blobs = {name: json.dumps(content).encode() for name, content in (devices or {}).items()}
    return report_of(TASK, "run-1", url, read(records, blobs))


@pytest.fixture(scope="module")
def whole() -> str:
    return render(report(EXAMPLE["records"], EXAMPLE["devices"], "https://mlflow.example/#/runs/1"))


def test_every_part_is_on_the_page(whole: str) -> None:
    page = Page(whole)
    headings = [
        "Learning by round",
        "Clients",
        "Classes",
        "Variants",
        "Devices",
        "Endpoint",
        "Time",
        "Lineage",
    ]
    for words in (*headings, "Delivered", "98.06 %", "0.55 pp", "dynamic-int8", "sensor-hub-6", "99.20 %"):
        assert words in page.text
    assert page.tags["svg"] == 3
    assert ("a", "href", "https://mlflow.example/#/runs/1") in page.attributes
    assert "run_rounds-0009" in page.text
    assert "no report within 600 s" in page.text
    assert "learning_rate: 0.05" in page.text


def test_the_page_is_one_small_file_that_loads_nothing(whole: str) -> None:
    page = Page(whole)
    assert len(whole.encode()) < 1_000_000
    assert not {"script", "link", "img", "iframe", "object", "embed", "image"} & set(page.tags)
    loading = [
        (tag, name, value)
        for tag, name, value in page.attributes
        if name in ("src", "srcset", "data", "poster", "action") or (name.endswith("href") and tag != "a")
    ]
    assert all(name == "xlink:href" and value.startswith("#") for _, name, value in loading)
    assert not re.search(r"url\((?!#)|@import|expression\(", whole)
    assert "default-src 'none'" in whole


def test_ids_are_unique_and_every_reference_has_its_target(whole: str) -> None:
    attributes = Page(whole).attributes
    ids = Counter(value for _, name, value in attributes if name == "id")
    assert set(ids.values()) == {1}
    references = set(re.findall(r"url\(#([^)]+)\)", whole))
    references |= {value[1:] for _, name, value in attributes if name == "xlink:href"}
    references |= {
        part for _, name, value in attributes if name == "aria-labeledby" for part in value.split()
    }
    assert references
    assert references <= set(ids)


def test_the_same_records_give_the_same_page() -> None:
    found = report(EXAMPLE["records"], EXAMPLE["devices"])
    assert render(found) == render(found)


def test_every_chart_is_named_for_who_cannot_see_it(whole: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", whole, re.DOTALL):
        root = ElementTree.fromstring(svg)
        names = [child.text for child in root if child.tag.endswith(("title", "desc"))]
        assert root.get("role") == "img"
        assert len(names) == 2
        assert all(names)


def test_centralized_training_is_a_line_where_its_passes_were_scored_else_a_level() -> None:
    rounds = [Round(round=number, accuracy=0.5) for number in (1, 2)]
    level = Evaluation(accuracy=0.9)
    line = Evaluation(accuracy=0.9, passes=[{"round": 1, "accuracy": 0.7}, {"round": 2, "accuracy": 0.9}])
    alone, drawn, curve = (
        charts.rounds_chart("accuracy", rounds, [], found) for found in (None, level, line)
    )
    assert "centralized" not in alone
    assert "var(--centralized)" in drawn
    assert "var(--centralized)" in curve
    assert drawn != curve


def test_charts_have_no_color_of_their_own(whole: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", whole, re.DOTALL))
    assert "var(--federated)" in drawn
    assert not re.search(r"(fill|stroke): #", drawn)


def hostile(value: Any) -> Any:
    """`value` with every text in it, keys of free choice too, made hostile."""
    if isinstance(value, dict):
        return {key: hostile(content) for key, content in value.items()}
    if isinstance(value, list):
        return [hostile(content) for content in value]
    return HOSTILE if isinstance(value, str) else value


def test_nothing_from_a_record_becomes_markup() -> None:
    records = {name: hostile(content) for name, content in EXAMPLE["records"].items()}
    for name, content in records.items():
        if name.startswith("steps/"):
            content |= {"started": "2026-01-01T00:00:00Z", "status": "failed"}
        if name.startswith("rounds-"):
            for record in content:
                record["failed"] = {HOSTILE: HOSTILE}
    records["version"]["devices"] = {HOSTILE: HOSTILE}
    records["endpoint_check"][HOSTILE] = HOSTILE
    records[f"variant-{HOSTILE}"] = "unreadable"
    devices = {f"{HOSTILE}.json": hostile(content) for content in EXAMPLE["devices"].values()}
    text = render(report_of(TASK, HOSTILE, HOSTILE, report(records, devices).facts))
    page = Page(text)
    assert "alert(1)" in page.text
    assert not {"script", "img"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text
    styles = [value for _, name, value in page.attributes if name == "style"]
    assert not any("alert" in style for style in styles)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", HOSTILE])
def test_only_web_addresses_become_links(url: str) -> None:
    assert "a" not in Page(render(report({}, url=url))).tags


def test_a_run_that_failed_at_once_still_has_a_page() -> None:
    text = Page(render(report({"ending": {"state": "FAILED", "error": "no\nimage <none>"}}))).text
    assert "Failed" in text
    assert "no image <none>" in text
    for heading in ("Learning by round", "Clients", "Variants", "Devices", "Time"):
        assert heading not in text


def test_text_that_is_no_unicode_does_not_end_the_report() -> None:
    records = {
        "endpoint": {"name": "e"},
        "endpoint_check": {"said \ud800": "\udfff"},
        "steps/a": {"step": "\ud800"},
    }
    assert "Endpoint" in Page(render(report(records))).text


def test_unreadable_records_are_named() -> None:
    assert "steps/odd" in Page(render(report({"steps/odd": 3}))).text


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.sets(st.sampled_from(sorted(EXAMPLE["records"]))))
def test_any_part_of_the_records_makes_a_page(kept: set[str]) -> None:
    Page(render(report({name: EXAMPLE["records"][name] for name in kept}, EXAMPLE["devices"])))


def test_figures_that_are_no_numbers_are_shown_and_not_drawn() -> None:
    nan, inf = float("nan"), float("inf")
    records = {
        "rounds-0001": [
            {"round": 1, "loss": nan, "accuracy": inf},
            {"round": 2, "loss": inf, "accuracy": 0.5},
        ],
        "evaluation-0002": {"round": 2, "loss": nan, "accuracy": nan, "confusion": [[0, 0], []]},
        "centralized": {"accuracy": nan, "loss": inf},
        "gate": {"decision": "fail", "accuracy": nan, "centralized": inf},
        "variant-int8": {
            "kind": "int8",
            "bytes": 5,
            "accuracy": nan,
            "accuracy_loss": nan,
            "latency_ms_1": inf,
        },
        "steps/a": {"step": "a", "started": "2026-01-01T00:00:00Z", "seconds": nan},
    }
    text = Page(render(report(records))).text
    assert "nan %" in text
    assert "Learning by round" in text


def test_a_large_run_stays_readable_and_small() -> None:
    names = [f"device-{number}" for number in range(2000)]
    data = {"clients": [{"id": name, "train": 50, "labels": [5] * 10} for name in names], "classes": 10}
    rounds = [
        {
            "round": number,
            "cohort": names[:500],
            "reported": names[:400],
            "failed": dict.fromkeys(names[400:500], "late"),
        }
        for number in range(1, 301)
    ]
    devices = {
        f"{name}.json": {"device": name, "status": "failed", "error": "x" * MESSAGE_LIMIT} for name in names
    }
    text = render(report({"data": data, "rounds-0001": rounds}, devices))
    assert len(text.encode()) < 2_000_000
    said = Page(text).text
    assert f"The first {pages.MOST_ROWS} of 2,000 devices" in said
    assert f"the first {pages.MOST_ROWS} of 2,000 clients" in said
    assert f"the first {pages.MOST_BARS} of 2,000 clients" in said
    assert f"and {300 * 100 - pages.MOST_ROWS:,} more" in said


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (pages.percent(0.98061), "98.06 %"),
        (pages.percent(None), "–"),
        (pages.points(-0.0055), "−0.55 pp"),
        (pages.points(0.0249), "+2.49 pp"),
        (pages.points(-0.0), "0.00 pp"),
        (pages.points(0.0249, signed=False), "2.49 pp"),
        (pages.size(999), "999 B"),
        (pages.size(324_400), "324 kB"),
        (pages.size(999_499), "999 kB"),
        (pages.size(999_500), "1.00 MB"),
        (pages.size(None), "–"),
        (pages.milliseconds(0.0451), "0.045 ms"),
        (pages.milliseconds(9.1), "9.10 ms"),
        (pages.milliseconds(1944.2), "1,944.2 ms"),
        (pages.duration(0.42), "0.42 s"),
        (pages.duration(13.52), "13.5 s"),
        (pages.duration(59.96), "1 min 0 s"),
        (pages.duration(192), "3 min 12 s"),
        (pages.duration(3599.7), "1 h 0 min"),
        (pages.duration(7500), "2 h 5 min"),
        (pages.short("sha256:0123456789abcdef"), "0123456789ab"),
        (pages.short(None), "–"),
        (pages.fact(True), "yes"),
        (pages.fact(2.4123e-7), "2.412e-07"),
    ],
)
def test_figures_are_said_as_a_person_would(said: str, expected: str) -> None:
    assert said == expected
