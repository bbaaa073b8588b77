"""The report as a page: complete, self-contained, readable without eyes, and safe whatever the records hold."""

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fededge.documents import ClientScore, Evaluation, Pass, Quantile, Score
from fededge.report import Report, charts, report_of
from fededge.report import page as pages
from fededge.report import render as page_of
from tests.fededge.report.example import (
    COMPARED,
    DEVICES,
    HOSTILE,
    RECORDS,
    TASK,
    changed,
    device,
    ended,
    refused,
    report,
    round_record,
    rounds,
    step,
)
from tests.fededge.report.html_page import Page

PARTS = ["Learning by round", "Clients", "Classes", "Variants", "Devices", "Endpoint", "Time", "Lineage"]


def render(found: Report) -> str:
    return page_of(found).decode()


@pytest.fixture(scope="module")
def whole() -> str:
    return render(report(RECORDS, DEVICES, "https://mlflow.example/#/runs/1", COMPARED))


def test_every_part_is_on_the_page(whole: str) -> None:
    page = Page(whole)
    for words in (*PARTS, "Delivered", "98.06 %", "0.55 pp", "dynamic-int8", "sensor-hub-6", "99.20 %"):
        assert words in page.text
    assert page.tags["svg"] == 4
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
    page = Page(whole)
    ids = Counter(page.values("id"))
    assert set(ids.values()) == {1}
    references = set(re.findall(r"url\(#([^)]+)\)", whole))
    references |= {value[1:] for value in page.values("xlink:href")}
    references |= {part for value in page.values("aria-labelledby") for part in value.split()}
    assert references
    assert references <= set(ids)


@pytest.mark.parametrize(
    "records",
    [RECORDS, {**step("a", error="broken"), "data": None, **ended("FAILED")}, refused("too low"), {}],
    ids=["whole", "failed", "not shipped", "nothing"],
)
def test_the_page_has_landmarks_and_ordered_headings(records: dict[str, Any]) -> None:
    page = Page(render(report(records, DEVICES)))
    assert page.tags["h1"] == page.tags["main"] == page.tags["header"] == page.tags["footer"] == 1
    assert ("html", "lang", "en") in page.attributes
    assert page.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_every_table_has_a_caption_and_every_header_cell_its_scope(whole: str) -> None:
    tables = Page(whole).tables
    assert len(tables) >= 12
    assert all(table.caption.strip() for table in tables)
    assert len({table.caption for table in tables}) == len(tables)
    assert all(table.scopes and set(table.scopes) <= {"col", "row"} for table in tables)


def test_every_chart_is_named_and_described_for_who_cannot_see_it(whole: str) -> None:
    for svg in re.findall(r"<svg.*?</svg>", whole, re.DOTALL):
        root = ElementTree.fromstring(svg)
        words = {child.get("id"): child.text for child in root}
        names = [words[part] for part in str(root.get("aria-labelledby")).split()]
        assert root.get("role") == "img"
        assert len(names) == 2
        assert all(names)


def test_what_is_drawn_in_boxes_is_said_in_words(whole: str) -> None:
    labels = Page(whole).values("aria-label")
    assert "reported in 1–4, 6–12; failed in 5" in labels
    assert any(label.startswith("93 of 0, 12 of 1, 47 of 2") for label in labels)


def test_the_same_records_give_the_same_page() -> None:
    found = report(RECORDS, DEVICES)
    assert render(found) == render(found)


def evaluation(number: int, accuracy: float, passes: list[Pass] | None = None) -> Evaluation:
    return Evaluation(
        round=number,
        score=accuracy,
        loss=0.5,
        examples=10,
        samples=0,
        per_class=[],
        confusion=[],
        passes=passes or [],
    )


def test_centralized_training_is_a_line_where_its_passes_were_scored_else_a_level() -> None:
    learned = [round_record(number, [], []) for number in (1, 2)]
    passes = [Pass(round=number, score=0.7, loss=0.5) for number in (1, 2)]
    alone, level, line = (
        charts.rounds_chart("accuracy", learned, [], found)
        for found in (None, evaluation(0, 0.9), evaluation(0, 0.9, passes))
    )
    assert "entralized" not in alone
    assert "var(--centralized)" in level
    assert "var(--centralized)" in line
    assert level != line


def described(svg: str) -> str:
    return str(ElementTree.fromstring(svg)[1].text)


def test_the_held_out_curve_takes_the_scores_of_the_rounds_else_the_evaluations() -> None:
    plain = [round_record(number, [], []) for number in (1, 2, 3)]
    scored = [
        record.model_copy(update={"held_out": Score(score=0.2 * record.round, loss=0.1, examples=10)})
        for record in plain
    ]
    evaluations = [evaluation(0, 0.1), evaluation(2, 0.4)]
    by_evaluation = charts.rounds_chart("accuracy", plain, evaluations, None)
    by_round = charts.rounds_chart("accuracy", scored, evaluations, None)
    assert "0.4000 after round 2, 0.4000 after round 2" in described(by_evaluation)
    assert "0.2000 after round 1, 0.6000 after round 3" in described(by_round)
    resumed = charts.rounds_chart("accuracy", [*plain[:2], scored[2]], evaluations, None)
    assert "0.4000 after round 2, 0.6000 after round 3" in described(resumed)


def test_a_run_without_centralized_training_does_not_speak_of_it() -> None:
    alone = {name: content for name, content in RECORDS.items() if name != "centralized"}
    page = Page(render(report(alone | changed("gate", centralized=None), DEVICES)))
    assert "centralized training" not in page.text
    assert "Gap" not in page.text
    assert "Accuracy" in page.text


def test_charts_have_no_color_of_their_own(whole: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", whole, re.DOTALL))
    assert "var(--federated)" in drawn
    assert not re.search(r"(fill|stroke): #", drawn)


def test_a_version_that_is_served_or_released_instead_is_named() -> None:
    followed = RECORDS | changed("endpoint", version=4) | changed("release", version=5)
    text = Page(render(report(followed, DEVICES))).text
    assert "This run registered version 3; the endpoint serves version 4" in text
    assert "This run registered version 3; devices are given version 5" in text
    assert "another version" not in Page(render(report(RECORDS, DEVICES))).text


def hostile(value: Any) -> Any:
    """`value` with every text in it that a document leaves free made hostile."""
    if isinstance(value, dict):
        return {key: content if key in FIXED else hostile(content) for key, content in value.items()}
    if isinstance(value, list):
        return [hostile(content) for content in value]
    return HOSTILE if isinstance(value, str) and not re.match("sha256:|fededge-", value) else value


FIXED = {"started", "status", "decision", "dtype", "device", "kind"}


def test_nothing_from_a_record_becomes_markup() -> None:
    records = {name: hostile(content) for name, content in RECORDS.items()}
    for name, content in records.items():
        for record in content["rounds"] if name.startswith("rounds-") else []:
            record["failed"] = {HOSTILE: HOSTILE}
        if name.startswith("variant-"):
            content["kind"] = HOSTILE
    label = records["data"]["example"]["label"]
    label |= {"names": [HOSTILE] * 10, "unit": HOSTILE[:40]}
    records["data"]["example"]["features"][0]["unit"] = HOSTILE[:40]
    records["evaluation-0012"] |= {
        "metrics": {HOSTILE: 1.0},
        "residuals": [[1.0, 2.0]],
        "roc": [[0.0, 1.0, 0.5]],
    }
    records["version"]["variants"][0]["kind"] = HOSTILE[:40]
    records["version"]["devices"] = {HOSTILE: HOSTILE}
    records["gate"]["reasons"] = [HOSTILE]
    records |= {f"variant-{HOSTILE}": "no object", "steps/odd": {"format": HOSTILE}}
    failed = step("failed", error=HOSTILE)
    devices = [device(f"d-{n}", kind=HOSTILE[:40], error=HOSTILE, **{"class": HOSTILE[:60]}) for n in "ab"]
    found = report({**records, **failed}, devices)
    assert len(found.facts.unreadable) == 2
    text = render(report_of(TASK, HOSTILE, HOSTILE, found.facts))
    page = Page(text)
    assert "alert(1)" in page.text
    assert not {"script", "img"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in page.text
    assert not any("alert" in style for style in page.values("style"))


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", HOSTILE])
def test_only_web_addresses_become_links(url: str) -> None:
    assert "a" not in Page(render(report({}, url=url))).tags


def test_a_run_that_failed_at_once_still_has_a_page() -> None:
    text = Page(render(report(ended("FAILED", "no\nimage <none>")))).text
    assert "Failed" in text
    assert "no image <none>" in text
    for heading in PARTS[:-1]:
        assert heading not in text


def test_text_that_is_no_unicode_does_not_end_the_report() -> None:
    records = {**changed("steps/prepare_data", step="\ud800"), **changed("variant-int8", kind="\udfff")}
    assert "Variants" in Page(render(report(records))).text


def test_records_that_cannot_be_read_are_named_with_the_reason() -> None:
    newer = {"format": "fededge-step-7"}
    text = Page(render(report({"steps/odd": newer, "gate": None}))).text
    assert "steps/odd" in text
    assert "newer than fededge-step-1" in text
    assert "not JSON, or cut short" in text


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.sets(st.sampled_from(sorted(RECORDS))))
def test_any_part_of_the_records_makes_a_page(kept: set[str]) -> None:
    Page(render(report({name: RECORDS[name] for name in kept}, DEVICES)))


def test_a_large_run_stays_readable_and_small() -> None:
    names = [f"device-{number}" for number in range(2000)]
    clients = [{"id": name, "train": 50, "test": 0, "labels": [5] * 10} for name in names]
    late = dict.fromkeys(names[400:500], "late")
    learned = rounds(*(round_record(n, names[:500], names[:400], failed=late) for n in range(1, 301)))
    devices = [device(name, status="failed", error="x" * 500) for name in names]
    text = render(report({**changed("data", clients=clients), **learned}, devices))
    assert len(text.encode()) < 2_000_000
    shown = Page(text).text
    assert f"The first {pages.MAX_ROWS} of 2,000 devices" in shown
    assert f"The first {pages.MAX_ROWS} of 2,000 clients" in shown
    assert f"The first {pages.MAX_BARS} of 2,000 clients" in shown
    assert f"The last {pages.MAX_ROWS} of 300 rounds" in shown
    assert f"and {300 * 100 - pages.MAX_ROWS:,} more" in shown


def test_a_confusion_matrix_of_many_classes_is_left_out_and_the_page_says_so() -> None:
    many = pages.MAX_CLASSES + 1
    text = render(report(changed("evaluation-0012", confusion=[[0] * many] * many)))
    assert f"matrix of {many} classes is left out" in text
    assert len(text.encode()) < 300_000


NUMBERS = Evaluation(
    round=12,
    metric="r2",
    score=-0.25,
    loss=1.25,
    metrics={"r2": -0.25, "mae": 2.5, "loss": 1.25},
    examples=3,
    samples=9.0,
    quantiles=[Quantile(share=0.0, value=-3.0), Quantile(share=1.0, value=4.0)],
    residuals=[[20.0, -3.0], [22.0, 1.0], [25.0, 4.0]],
    clients=[ClientScore(id=f"site-{n}", score=n / 4 - 0.5, loss=1.0, examples=1) for n in range(3)],
    worst_tenth=-0.5,
    spread=0.2,
)


def test_a_model_of_numbers_has_residuals_and_no_confusion() -> None:
    example = RECORDS["data"]["example"] | {"label": {"kind": "number", "unit": "C"}}
    records = {**changed("data", example=example), "evaluation-0012": NUMBERS}
    found = report(records)
    page = Page(render(found))
    for words in ("R2", "-0.2500", "MAE", "output minus target (C)", "Residuals", "Worst clients"):
        assert words in page.text, words
    assert "Confusion" not in page.text
    assert "True class down" not in page.text
    assert "%" not in page.text.split("Metrics")[1].split("Residuals")[0]
    text = render(found)
    assert "3 examples: output minus target lies between -3 and 4 (C)." in text
    assert "3 clients, from -0.5000 to 0.0000; -0.2500 on the held-out examples." in text


def test_a_reconstruction_has_the_errors_that_tell_the_unlike() -> None:
    page = Page(render(report({"evaluation-0012": NUMBERS.model_copy(update={"residuals": []})})))
    assert "Mean squared error of an example" in page.text


def test_two_classes_have_a_curve() -> None:
    found = evaluation(12, 0.9).model_copy(
        update={"metrics": {"auc": 0.8125}, "roc": [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]}
    )
    text = render(report({"evaluation-0012": found}))
    assert "The area under it is 0.8125." in text
    assert "ROC curve" in text


def test_a_step_that_was_reused_names_the_run_that_it_comes_from() -> None:
    assert "reused" not in Page(render(report(RECORDS))).text
    text = Page(render(report(changed("steps/prepare_data", reused="run-0")))).text
    assert "reused from run run-0" in text
