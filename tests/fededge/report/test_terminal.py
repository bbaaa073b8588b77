"""The report in a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from fededge.documents import DeviceReport
from fededge.report import summary
from tests.fededge.report.example import (
    COMPARED,
    DEVICES,
    RECORDS,
    changed,
    device,
    ended,
    refused,
    report,
    step,
)


def printed(records: dict[str, Any], devices: Sequence[DeviceReport] = ()) -> str:
    console = Console(width=100, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(summary(report(records, devices, task=COMPARED)))
    return capture.get()


def test_the_summary_has_outcome_figures_variants_and_devices() -> None:
    text = printed(RECORDS, DEVICES)
    for words in (
        "Delivered",
        "98.06 %",
        "0.55 pp",
        "dynamic-int8",
        "not passed",
        "sensor-hub-6",
        "8e931709aa85",
    ):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_without_centralized_training_there_is_no_gap() -> None:
    alone = {name: content for name, content in RECORDS.items() if name != "centralized"}
    text = printed(alone | changed("gate", centralized=None))
    assert "98.06 %" in text
    assert "Gap" not in text


def test_a_failed_run_shows_its_step_and_error() -> None:
    text = printed({**step("prepare_data", error="data has NaN"), **ended("FAILED")})
    assert "Failed: Step prepare_data failed." in text
    assert "data has NaN" in text


def test_long_reasons_are_whole_in_a_file() -> None:
    reason = " ".join(f"reason-{number}" for number in range(30))
    console = Console(width=60, force_terminal=False, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        console.print(summary(report({**refused(reason), **ended("SUCCEEDED")})))
    assert all(word in capture.get() for word in reason.split())


def test_a_model_that_failed_its_gate_says_why() -> None:
    text = printed({**refused("accuracy 0.5 is below 0.9"), **ended("SUCCEEDED")})
    assert "accuracy 0.5 is below 0.9" in text


def test_another_version_that_is_served_is_named() -> None:
    text = printed(RECORDS | changed("endpoint", version=4))
    assert "endpoint serves version 4, not 3" in " ".join(text.replace("│", " ").split())


def test_records_that_cannot_be_read_are_named() -> None:
    text = printed({"gate": {"format": "fededge-gate-decision-9"}, "data": None})
    assert "not read: gate: it has the format fededge-gate-decision-9" in text
    assert "not read: data: it is not JSON" in text
    assert "and 15 more" in printed({f"variant-{number:02d}": None for number in range(20)})


def test_records_can_neither_style_nor_drive_the_terminal() -> None:
    hostile = "[bold red]x[/] \x1b]0;title\x07 \x1b[2J"
    worse = device("a", kind=hostile, status="failed", **{"class": hostile})
    text = printed({**step(hostile, error=hostile), **changed("variant-int8", kind=hostile)}, [worse])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold red]") >= 3


def test_many_devices_are_counted_not_listed() -> None:
    text = printed({}, [device(f"d-{number}") for number in range(50)])
    assert "and 30 more" in text
    assert "d-19" in text
    assert "d-20" not in text
