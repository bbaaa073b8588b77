"""The report in a terminal."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from fededge.report import read, report_of, summary
from fededge.task import FederatedTask

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')


def printed(records: dict[str, Any], devices: dict[str, Any] | None = None) -> str:
    blobs = {name: json.dumps(content).encode() for name, content in (devices or {}).items()}
    console = Console(width=100, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(summary(report_of(TASK, "run-1", "mlflow ui", read(records, blobs))))
    return capture.get()


def test_the_summary_has_outcome_figures_variants_and_devices() -> None:
    text = printed(EXAMPLE["records"], EXAMPLE["devices"])
    for words in ("Delivered", "98.06 %", "dynamic-int8", "not passed", "sensor-hub-6", "8e931709aa85"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_failed_run_shows_its_step_and_error() -> None:
    failed = {"step": "prepare_data", "status": "failed", "error": "data has NaN"}
    text = printed({"steps/prepare_data": failed, "ending": {"state": "FAILED"}})
    assert "Failed: Step prepare_data failed." in text
    assert "data has NaN" in text


def test_a_model_that_failed_its_gate_says_why() -> None:
    gate = {"decision": "fail", "reasons": ["accuracy 0.5 is below 0.9"]}
    assert "accuracy 0.5 is below 0.9" in printed({"gate": gate, "ending": {"state": "SUCCEEDED"}})


def test_records_can_neither_style_nor_drive_the_terminal() -> None:
    hostile = "[bold red]x[/] \x1b]0;title\x07 \x1b[2J"
    device = {"device": hostile, "class": hostile, "kind": hostile, "status": hostile}
    failed = {"step": hostile, "status": "failed", "error": hostile}
    variant = {"kind": hostile}
    text = printed({"steps/a": failed, "variant-a": variant}, {"a.json": device})
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold red]") >= 3


def test_many_devices_are_counted_not_listed() -> None:
    devices = {f"d-{number}.json": {"device": f"d-{number}"} for number in range(50)}
    text = printed({}, devices)
    assert "and 30 more" in text
    assert "d-19" in text
    assert "d-20" not in text
