"""What the report concludes from the records of a run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.documents import Champion, Comparison, GateDecision
from fededge.report.rows import MESSAGE_LIMIT
from fededge.task import FederatedTask
from tests.fededge.report.example import (
    COMPARED,
    DEVICES,
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

RELEASED = {name: RECORDS[name] for name in ("version", "release")}


def test_a_run_to_the_end_is_delivered() -> None:
    outcome = report(RECORDS).outcome
    assert (outcome.title, outcome.severity) == ("Delivered", "good")
    assert outcome.text == "Version 3 was registered as champion; 3 variants are published."


def test_a_failed_run_names_the_first_step_that_failed_and_its_error() -> None:
    records = {
        **step("prepare_data"),
        **step("evaluate_model-0004", 9, "no state"),
        **step("run_rounds-0001", 5, "worker ended with status 137"),
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
def test_a_failure_outside_the_steps_shows_the_platform_s_message(records: dict[str, Any], text: str) -> None:
    outcome = report({**records, **ended("FAILED", "image not found")}).outcome
    assert text in outcome.text
    assert outcome.step is None
    assert outcome.detail == "image not found"


def test_a_model_that_failed_its_gate_was_not_shipped() -> None:
    outcome = report({**refused("accuracy 0.5 is below 0.9"), **ended("SUCCEEDED")}).outcome
    assert outcome.title == "Not shipped"


def test_a_step_that_succeeded_when_repeated_is_no_failure() -> None:
    failed_once = {**step("a", 1, "oops"), **step("a", 2)}
    assert report({**failed_once, **ended("SUCCEEDED")}).outcome.title == "Finished"


@pytest.mark.parametrize(
    ("records", "title"),
    [(ended("CANCELLED"), "Canceled"), (ended("CANCELED"), "Canceled"), ({}, "Running")],
)
def test_other_endings(records: dict[str, Any], title: str) -> None:
    assert report(records).outcome.title == title


def test_a_huge_error_is_cut_and_says_so() -> None:
    detail = report(ended("FAILED", "x" * (MESSAGE_LIMIT + 1500))).outcome.detail
    assert detail
    assert len(detail) < MESSAGE_LIMIT + 100
    assert detail.endswith("(1,500 more characters)")


def test_the_outcome_says_when_another_version_is_served_or_released() -> None:
    served = RECORDS | changed("endpoint", version=4)
    assert report(served).other_versions == ["The endpoint serves version 4, not 3."]
    assert report(served).outcome.text.endswith("The endpoint serves version 4, not 3.")
    both = served | changed("release", version=4)
    assert report(both).other_versions[1:] == ["Devices are given version 4, not 3."]
    assert report(RECORDS).other_versions == []


def test_clients_show_their_part_in_every_round() -> None:
    late = round_record(1, ["site-10", "site-2"], ["site-2"], failed={"site-10": "late"})
    silent = round_record(2, ["site-10"], [])
    two, ten = report(rounds(late, silent)).clients
    assert (two.id, ten.id) == ("site-2", "site-10")
    assert two.rounds == [(1, "reported", "reported"), (2, "not selected", "not selected")]
    assert ten.rounds == [(1, "failed", "late"), (2, "failed", "no report")]
    assert (two.selected, two.reported, two.failed) == (1, 1, 0)
    assert (ten.selected, ten.reported, ten.failed) == (2, 0, 2)
    assert (two.in_words, ten.in_words) == ("reported in 1; not selected in 2", "failed in 1–2")


@given(st.lists(st.text(min_size=1, max_size=8), unique=True))
def test_every_client_has_one_row_whatever_its_id(names: list[str]) -> None:
    clients = [{"id": name, "train": 1, "test": 0, "labels": []} for name in names]
    assert sorted(row.id for row in report(changed("data", clients=clients)).clients) == sorted(names)


@pytest.mark.parametrize("records", [RELEASED, {"version": RECORDS["version"]}])
@pytest.mark.parametrize(
    ("change", "status", "severity"),
    [
        ({}, "running", "good"),
        ({"version": 2}, "runs version 2, not 3", "warn"),
        ({"kind": "int8"}, "runs int8, not float16", "warn"),
        ({"digest": "sha256:" + "c" * 64}, "other bytes than were released", "bad"),
        ({"digest": None}, "other bytes than were released", "bad"),
        ({"status": "failed", "error": "bad signature"}, "failed", "bad"),
        ({"class": "drone"}, "running; its class has no variant", "warn"),
    ],
)
def test_a_device_is_compared_with_what_was_released(
    records: dict[str, Any], change: dict[str, Any], status: str, severity: str
) -> None:
    (row,) = report(records, [device(**change)]).devices
    assert (row.status, row.severity) == (status, severity)


def test_a_device_that_follows_the_release_of_another_version_is_right() -> None:
    records = {"version": RECORDS["version"], **changed("release", version=4)}
    behind, right = report(records, [device("a"), device("b", version=4)]).devices
    assert behind.status == "runs version 3, not 4"
    assert right.severity == "good"


def test_without_a_version_a_device_is_neither_right_nor_wrong() -> None:
    (row,) = report({}, [device()]).devices
    assert (row.status, row.severity) == ("running", "plain")


def test_steps_are_placed_in_the_time_of_the_whole_run() -> None:
    found = report({**step("a", 0), **step("b", 6)})
    assert found.seconds == 8
    assert [(row.step, row.start, row.share) for row in found.steps] == [("a", 0, 0.25), ("b", 0.75, 0.25)]


def test_the_gap_is_centralized_minus_federated() -> None:
    assert report(RECORDS).gap == pytest.approx(0.0055, abs=1e-4)
    assert report({}).gap is None
    assert report({"centralized": RECORDS["centralized"]}).gap is None


def test_the_gate_is_shown_with_what_was_asked() -> None:
    shown = report({"gate": RECORDS["gate"]}, task=COMPARED).conditions
    assert [condition.name for condition in shown] == [
        "Accuracy",
        "Behind centralized training",
        "Behind the champion, version 2",
    ]
    assert [condition.asked for condition in shown] == [
        "at least 90.00 %",
        "at most 5.00 pp",
        "at most 1.00 pp",
    ]
    assert [condition.reached for condition in shown] == ["98.06 %", "0.55 pp", "−0.28 pp"]
    first = report(changed("gate", champion=None), task=COMPARED)
    assert len(first.conditions) == 2


def test_a_gate_of_errors_asks_for_less_and_says_how_the_champion_was_compared() -> None:
    task = FederatedTask.from_json(
        '{"name": "digits", "data": {"source": "digits"}, "gate": {"metric": "mae", "max": 3, "min_examples": 100}}'
    )
    tested = Comparison(test="signs", better=True, p_value=0.0125, examples=400)
    decision = GateDecision(
        decision="pass",
        reasons=[],
        metric="mae",
        score=2.5,
        examples=400,
        champion=Champion(version=2, score=2.75),
        comparison=tested,
    )
    shown = report({"gate": decision}, task=task).conditions
    assert [(row.name, row.reached, row.asked) for row in shown] == [
        ("MAE", "2.5000", "at most 3.0000"),
        ("Behind the champion, version 2", "−0.2500", "at most 0.0100"),
        ("Better than the champion", "p 0.013, 400 examples", "paired test by random signs, p below 0.05"),
        ("Examples", "400", "at least 100"),
    ]


def test_a_champion_that_stays_is_no_failure() -> None:
    kept = changed("gate", decision="kept", reasons=["not better than the champion, version 2: p 0.4"])
    version = RECORDS["version"] | {"champion": False}
    outcome = report({**RECORDS, **kept, "version": version}).outcome
    assert (outcome.title, outcome.severity) == ("Kept", "good")
    assert "registered as version 3; the champion, version 2, stays" in outcome.text


def test_a_gate_without_a_centralized_comparison_does_not_speak_of_one() -> None:
    alone = report(changed("gate", centralized=None)).conditions
    assert [condition.name for condition in alone] == ["Accuracy", "Behind the champion, version 2"]
    compared_only = report({"gate": RECORDS["gate"]}).conditions[1]
    assert (compared_only.name, compared_only.asked) == ("Behind centralized training", "no limit")


def test_classes_have_the_names_that_the_data_gives_them() -> None:
    assert report(RECORDS).class_name(7) == "7"
    example = RECORDS["data"]["example"]
    named = example | {"label": example["label"] | {"classes": 2, "names": ["cat", "dog"]}}
    assert report(changed("data", example=named)).class_name(1) == "dog"
    assert report({}).class_name(1) == "1"


def test_lineage_goes_from_task_to_variant_and_to_what_is_served() -> None:
    rows = dict(report(RECORDS, DEVICES).lineage)
    assert rows["Task digest"] == TASK.digest
    assert rows["Data digest"] == RECORDS["data"]["data_digest"]
    assert rows["Weights digest"] == RECORDS["version"]["weights_digest"]
    assert rows["State digest"] == RECORDS["version"]["state_digest"]
    assert rows["Variant float16"] == RECORDS["variant-float16"]["digest"]
    assert rows["Registered version"] == "digits 3"
    served = dict(report(RECORDS | changed("endpoint", version=4)).lineage)["Served"]
    assert served == f"version 4, float32, {RECORDS['endpoint']['digest']}"
    assert list(dict(report({}).lineage)) == ["Task digest"]
