"""Records as the report reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge import settings, storage
from fededge.report import device_reports, read
from fededge.report.records import DEVICE_REPORT_LIMIT

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = [*EXAMPLE["records"], "rounds-x", "evaluation-", "steps/", "variant-?", "unknown"]


def test_a_whole_run_is_read_in_order() -> None:
    facts = read(EXAMPLE["records"], {name: json.dumps(v).encode() for name, v in EXAMPLE["devices"].items()})
    assert facts.unreadable == []
    assert [record.round for record in facts.rounds] == list(range(1, 13))
    assert [found.round for found in facts.evaluations] == [0, 4, 8, 12]
    assert facts.steps[0].step == "prepare_data"
    assert facts.version
    assert facts.version.version == "3"
    assert {device.device_class for device in facts.devices} == {"gateway", "camera", "sensor-hub"}
    assert facts.devices[0].at
    assert facts.devices[0].at.year == 2026


def test_a_round_that_was_run_again_counts_once() -> None:
    batch = [{"round": 1, "loss": 2.0}, {"round": 2, "loss": 1.0}]
    facts = read({"rounds-0001": batch, "rounds-0002": [{"round": 2, "loss": 0.5}]})
    assert [(record.round, record.loss) for record in facts.rounds] == [(1, 2.0), (2, 0.5)]


def test_no_records_are_no_facts() -> None:
    facts = read({})
    assert (facts.rounds, facts.steps, facts.devices, facts.unreadable) == ([], [], [], [])
    assert facts.data is None
    assert facts.version is None


def test_a_malformed_record_is_named_and_the_rest_is_read() -> None:
    facts = read({"data": [1, 2], "variant-int8": {"bytes": "many"}, "gate": {"decision": "pass"}})
    assert facts.unreadable == ["data", "variant-int8"]
    assert facts.gate
    assert facts.gate.open


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff",
        b"[" * 60_000,
        b'"text"',
        b'{"status": "running"}',
        b'{"device": {}}',
        b'{"device": "good", "status": "running"}',
        b'{"device": "odd", "at": "9999-12-31T23:59:59-12:00"}',
    ],
)
def test_a_device_that_reports_nonsense_is_named(blob: bytes) -> None:
    facts = read({}, {"good.json": b'{"device": "good"}', "odd.json": blob})
    assert [device.device for device in facts.devices] == ["good"]
    assert facts.unreadable == ["devices/odd.json"]


def test_a_device_counts_with_its_latest_report() -> None:
    record = [{"device": "a", "version": 1, "at": 100}, {"device": "b", "version": 1, "at": 300}]
    blobs = {
        "a.json": b'{"device": "a", "version": 2, "at": 200}',
        "b.json": b'{"device": "b", "version": 2, "at": 200}',
    }
    found = {device.device: device.version for device in read({"devices": record}, blobs).devices}
    assert found == {"a": "2", "b": "1"}


def test_steps_without_a_time_come_last_and_times_without_a_zone_are_utc() -> None:
    steps = {
        "steps/a": {"step": "a"},
        "steps/b": {"step": "b", "started": "2026-01-01T00:00:02"},
        "steps/c": {"step": "c", "started": "2026-01-01T02:00:01+02:00"},
        "steps/d": {"step": "d"},
    }
    assert [step.step for step in read(steps).steps] == ["c", "b", "a", "d"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_content_of_a_record_raises(records: dict[str, Any]) -> None:
    facts = read(records)
    assert set(facts.unreadable) <= set(records)


def test_device_reports_come_from_the_blob_store_and_an_oversized_one_stays_empty() -> None:
    folder = storage.join(settings.storage(), "fleet", "digits", "devices")
    assert device_reports("digits") == {}
    storage.write(storage.join(folder, "one.json"), b"{}")
    storage.write(storage.join(folder, "big.json"), b" " * (DEVICE_REPORT_LIMIT + 1))
    assert device_reports("digits") == {"big.json": b"", "one.json": b"{}"}


def test_a_blob_store_that_cannot_be_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDEDGE_STORAGE", "nowhere://bucket")
    assert read({}, device_reports("digits")).unreadable == ["devices/*"]
