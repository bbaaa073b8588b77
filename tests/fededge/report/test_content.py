"""What the report concludes from the records of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.report import Report, read, report_of
from fededge.report.rows import MESSAGE_LIMIT
from fededge.task import FederatedTask

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')


def report(records: dict[str, Any], devices: dict[str, Any] | None = None) -> Report:
    blobs = {name: json.dumps(content).encode() for name, content in (devices or {}).items()}
    return report_of(TASK, "run-1", "mlflow ui", read(records, blobs))


def step(name: str, started: int = 0, status: str = "succeeded", error: str | None = None) -> dict[str, Any]:
    time = f"2026-01-01T00:00:{started:02d}+00:00"
    content = {"step": name, "started": time, "seconds": 2.0, "status": status, "error": error}
    return {f"steps/{name}": content}


def ended(state: str, error: str | None = None) -> dict[str, Any]:
    return {"ending": {"state": state, "error": error}}


def test_a_run_to_the_end_is_delivered() -> None:
    outcome = report(EXAMPLE["records"]).outcome
    assert (outcome.title, outcome.mood) == ("Delivered", "good")
    assert "Version 3 is registered as champion; 3 variants" in outcome.text


def test_a_failed_run_names_the_first_step_that_failed_and_its_error() -> None:
    records = {
        **step("prepare_data"),
        **step("evaluate_model-0004", 9, "failed", "no state"),
        **step("run_rounds-0001", 5, "failed", "worker ended with status 137"),
        **ended("FAILED", "Task exit-handler-1 failed."),
    }
    outcome = report(records).outcome
    assert (outcome.title, outcome.step, outcome.detail) == (
        "Failed",
        "run_rounds-0001",
        "worker ended with status 137",
    )


@pytest.mark.parametrize(
    ("records", "text"),
    [({}, "before any step was recorded"), (step("prepare_data"), "the last of them was prepare_data")],
)
def test_a_failure_outside_the_steps_shows_what_the_platform_said(records: dict[str, Any], text: str) -> None:
    outcome = report({**records, **ended("FAILED", "image not found")}).outcome
    assert text in outcome.text
    assert outcome.step is None
    assert outcome.detail == "image not found"


def test_a_model_that_failed_its_gate_was_not_shipped() -> None:
    gate = {"gate": {"decision": "fail", "reasons": ["accuracy 0.5 is below 0.9"]}}
    assert report({**gate, **ended("SUCCEEDED")}).outcome.title == "Not shipped"


def test_a_step_that_succeeded_when_repeated_is_no_failure() -> None:
    failed_once = {**step("a", 1, "failed", "oops"), **step("a", 2)}
    assert report({**failed_once, **ended("SUCCEEDED")}).outcome.title == "Finished"


@pytest.mark.parametrize(
    ("records", "title"),
    [(ended("CANCELLED"), "Canceled"), (ended("CANCELED"), "Canceled"), ({}, "Under way")],
)
def test_other_endings(records: dict[str, Any], title: str) -> None:
    assert report(records).outcome.title == title


def test_a_huge_error_is_cut_and_says_so() -> None:
    detail = report(ended("FAILED", "x" * (MESSAGE_LIMIT + 1500))).outcome.detail
    assert detail
    assert len(detail) < MESSAGE_LIMIT + 100
    assert detail.endswith("(1,500 more characters)")


def test_clients_show_their_part_in_every_round() -> None:
    rounds = [
        {"round": 1, "cohort": ["site-10", "site-2"], "reported": ["site-2"], "failed": {"site-10": "late"}},
        {"round": 2, "cohort": ["site-10"], "reported": [], "failed": {}},
    ]
    two, ten = report({"rounds-0001": rounds}).clients
    assert (two.id, ten.id) == ("site-2", "site-10")
    assert two.rounds == [(1, "reported", "reported"), (2, "away", "not selected")]
    assert ten.rounds == [(1, "failed", "late"), (2, "failed", "no report")]
    assert (two.selected, two.reported, two.failed) == (1, 1, 0)
    assert (ten.selected, ten.reported, ten.failed) == (2, 0, 2)


@given(st.lists(st.text(max_size=8), unique=True))
def test_every_client_has_one_row_whatever_its_id(names: list[str]) -> None:
    clients = [{"id": name, "train": 1, "labels": []} for name in names]
    assert sorted(row.id for row in report({"data": {"clients": clients}}).clients) == sorted(names)


VERSION = {
    "version": 3,
    "devices": {"camera": "float16"},
    "variants": [{"kind": "float16", "digest": "sha256:aa"}, {"kind": "int8", "digest": "sha256:bb"}],
}
RUNNING = {
    "device": "camera-1",
    "class": "camera",
    "version": 3,
    "kind": "float16",
    "digest": "sha256:aa",
    "status": "running",
}


@pytest.mark.parametrize(
    ("change", "verdict", "mood"),
    [
        ({}, "running", "good"),
        ({"version": 2}, "runs version 2, not 3", "warn"),
        ({"kind": "int8", "digest": "sha256:bb"}, "runs int8, not float16", "warn"),
        ({"digest": "sha256:cc"}, "other bytes than were released", "bad"),
        ({"digest": None}, "other bytes than were released", "bad"),
        ({"status": "failed", "error": "bad signature"}, "failed", "bad"),
        ({"status": None}, "no status", "bad"),
        ({"class": "drone"}, "running; its class has no variant", "warn"),
    ],
)
def test_a_device_is_held_against_what_was_released(change: dict[str, Any], verdict: str, mood: str) -> None:
    (row,) = report({"version": VERSION}, {"camera-1.json": RUNNING | change}).devices
    assert (row.verdict, row.mood) == (verdict, mood)


def test_without_a_version_a_device_is_neither_right_nor_wrong() -> None:
    (row,) = report({}, {"camera-1.json": RUNNING}).devices
    assert (row.verdict, row.mood) == ("running", "plain")


def test_steps_are_placed_in_the_time_of_the_whole_run() -> None:
    found = report({**step("a", 0), **step("b", 6)})
    assert found.seconds == 8
    assert [(row.step, row.start, row.share) for row in found.steps] == [("a", 0, 0.25), ("b", 0.75, 0.25)]


def test_the_gap_is_centralized_minus_federated() -> None:
    assert report(EXAMPLE["records"]).gap == pytest.approx(0.0055, abs=1e-4)
    assert report({}).gap is None
    assert report({"centralized": {"accuracy": 0.9}}).gap is None


def test_the_gate_is_shown_with_what_was_asked() -> None:
    gate = {
        "decision": "pass",
        "accuracy": 0.95,
        "centralized": 0.96,
        "champion": {"version": 2, "accuracy": 0.97},
    }
    names = [name for name, *_ in report({"gate": gate}).conditions]
    assert names == ["Accuracy", "Behind centralized training", "Behind the champion, version 2"]
    assert [limit for *_, limit, _ in report({"gate": gate}).conditions] == [0.9, 0.05, 0.01]
    assert len(report({"gate": gate | {"champion": None}}).conditions) == 2


def test_what_the_check_of_the_endpoint_found_is_listed_flat() -> None:
    check = {"examples": 100, "rest": {"max_abs_difference": 0.5}}
    found = report({"endpoint_check": check}).checks
    assert found == [("examples", 100), ("rest max abs difference", 0.5)]


def test_lineage_goes_from_task_to_variant() -> None:
    rows = dict(report(EXAMPLE["records"]).lineage)
    assert rows["Task digest"] == TASK.digest
    assert rows["Data digest"] == EXAMPLE["records"]["data"]["digest"]
    assert rows["Variant float16"] == EXAMPLE["records"]["variant-float16"]["digest"]
    assert list(dict(report({}).lineage)) == ["Task digest"]
