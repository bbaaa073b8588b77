"""Records as the report reads them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge import settings, storage
from fededge.documents import DeviceReport, DeviceReports, Rounds, reports_url
from fededge.report import device_reports, read
from tests.fededge.report.example import DEVICES, RECORDS, changed, contents, device, round_record

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = [*RECORDS, "devices", "rounds-x", "evaluation-", "steps/", "variant-?", "unknown"]
DIGEST = "sha256:" + "a" * 64
SCORES = {"accuracy": 0.9, "loss": 0.3, "examples": 10}
CLASS = {"label": 0, "examples": 10, "precision": 0.9, "recall": 0.9, "f1": 0.9}
ROUND = {
    "cohort": ["site-0"],
    "reported": ["site-0"],
    "failed": {},
    "examples": 9,
    "loss": 1.0,
    "accuracy": 0.5,
}
SHIPPED = {"kind": "float32", "url": "file:///m", "digest": DIGEST, "bytes": 9}
MEASURED = {"compressed_bytes": 8, "accuracy": 0.9, "latency_ms_1": 0.1, "latency_ms_500": 9}
DEVICE = {"device": "gate-1", "class": "gateway", "version": 1, "kind": "float32", "digest": DIGEST}
RUNS = {"status": "running", "error": None, "accuracy": 0.9, "latency_ms": 0.1, "at": 1.5}
SCORED = {
    "rounds-0001": "rounds",
    "evaluation-0001": "evaluation",
    "centralised": "evaluation",
    "gate": "gate-decision",
    "variant-float32": "measurement",
    "version": "model-version",
    "devices": "device-reports",
}
"""The kinds of the records in which a score was an accuracy."""
FIRST_VERSION: dict[str, Any] = {
    "data": {
        "clients": [{"id": "site-0", "train": 9, "test": 1, "labels": [4, 5]}],
        "shape": [8, 8, 1],
        "classes": 2,
        "examples": 10,
        "digest": DIGEST,
        "test_digest": DIGEST,
    },
    "rounds-0001": [{"round": 1, "seconds": 2.5, "at": 1.0, **ROUND}],
    "evaluation-0001": {
        "round": 1,
        "samples": 9,
        **SCORES,
        "per_class": [CLASS],
        "confusion": [[10]],
        "clients": [{"id": "site-0", **SCORES}],
        "failed": {},
    },
    "centralised": {"samples": 9, **SCORES, "per_class": [CLASS], "confusion": [[10]], "clients": []},
    "gate": {"decision": "pass", "reasons": [], "accuracy": 0.9, "centralised": 0.95, "champion": None},
    "variant-float32": {
        **{key: value for key, value in SHIPPED.items() if key != "url"},
        **MEASURED,
        "accuracy_loss": 0.0,
        "shape": [8, 8, 1],
        "classes": 2,
        "passed": True,
        "reasons": [],
    },
    "version": {
        "name": "digits",
        "version": 1,
        "task_digest": DIGEST,
        "state_digest": DIGEST,
        "round": 1,
        "git_commit": "unknown",
        "run": "digits-1",
        "champion": True,
        "accuracy": 0.9,
        "shape": [8, 8, 1],
        "classes": 2,
        "variants": [SHIPPED | MEASURED],
        "devices": {"gateway": "float32"},
    },
    "endpoint": {
        "name": "digits",
        "namespace": "default",
        "rest": "http://127.0.0.1:9000",
        "grpc": "127.0.0.1:5000",
        "manifest": {},
        "variant": "float32",
        "digest": DIGEST,
        "version": 1,
    },
    "release": {
        "format": "fededge-release-1",
        "task": "digits",
        "version": 1,
        "issued": 1.5,
        "classes": {"gateway": SHIPPED},
        "shape": [8, 8, 1],
        "classes_count": 2,
        "state_digest": DIGEST,
        "round": 1,
        "key": "0123456789abcdef",
    },
    "devices": [DEVICE | RUNS],
    "steps/prepare_data": {
        "step": "prepare_data",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 2.0,
        "status": "succeeded",
        "error": None,
    },
    "ending": {"state": "SUCCEEDED", "error": None},
}


def first_format() -> dict[str, Any]:
    """The records as the first versions that had formats wrote them."""
    records = {name: content for name, content in FIRST_VERSION.items() if name in SCORED}
    records["rounds-0001"] = {"rounds": [{"round": 1, "seconds": 2.5, "at": 1.0, **ROUND, "score": SCORES}]}
    records["devices"] = {"devices": records["devices"]}
    return {
        **FIRST_VERSION,
        **{name: {**content, "format": f"fededge-{SCORED[name]}-1"} for name, content in records.items()},
    }


def test_a_whole_run_is_read_in_order() -> None:
    facts = read(RECORDS, DEVICES)
    assert facts.unreadable == {}
    assert facts.counts["rounds"] == 12
    assert facts.counts["population"] == facts.counts["release"] == 1
    assert facts.counts["devices"] == len(DEVICES)
    assert [record.round for record in facts.rounds] == list(range(1, 13))
    assert [found.round for found in facts.evaluations] == [0, 4, 8, 12]
    assert facts.centralized
    assert facts.centralized not in facts.evaluations
    assert facts.steps[0].step == "prepare_data"
    assert facts.version
    assert facts.version.version == 3
    assert {device.device_class for device in facts.devices} == {"gateway", "camera", "sensor-hub"}


@pytest.mark.parametrize("numbered", [False, True])
def test_records_of_accuracies_without_a_format_and_with_the_first_are_read(numbered: bool) -> None:
    facts = read(first_format() if numbered else FIRST_VERSION)
    assert facts.unreadable == {}
    assert all(facts.counts[name] for name in facts.counts.keys() - {"endpoint_check", "alone"})
    assert [(record.loss, record.score) for record in facts.rounds] == [(1.0, 0.5)]
    assert [bool(record.held_out) for record in facts.rounds] == [numbered]
    assert facts.version
    assert facts.version.variants[0].score == facts.version.score == 0.9
    assert [facts.evaluations[0].clients[0].score, facts.devices[0].score] == [0.9, 0.9]
    assert {facts.gate.metric if facts.gate else "", facts.version.metric} == {"accuracy"}
    assert facts.centralized
    assert facts.gate
    assert facts.gate.centralized == 0.95
    assert facts.release
    assert facts.release.devices["gateway"].digest == DIGEST
    assert [device.device for device in facts.devices] == ["gate-1"]


def test_a_round_that_was_run_again_counts_once() -> None:
    one, two, again = (round_record(n, [], [], loss=loss) for n, loss in ((1, 2.0), (2, 1.0), (2, 0.5)))
    records = contents({"rounds-0001": Rounds(rounds=[one, two]), "rounds-0002": Rounds(rounds=[again])})
    assert [(record.round, record.loss) for record in read(records).rounds] == [(1, 2.0), (2, 0.5)]


def test_no_records_are_no_facts() -> None:
    facts = read({})
    assert (facts.rounds, facts.steps, facts.devices, facts.unreadable) == ([], [], [], {})
    assert (facts.population, facts.version) == (None, None)
    assert not any(facts.counts.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "not JSON"),
        ([1, 2], "JSON list"),
        ({"kind": "int8", "bytes": "many"}, "no measurement"),
        ({"format": "fededge-measurement-3"}, "newer than fededge-measurement-2"),
        ({"format": "fededge-rounds-1"}, "fededge-measurement-2 is expected"),
        ({**RECORDS["variant-int8"], "score": float("nan")}, "score"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_the_rest_is_read(content: Any, reason: str) -> None:
    facts = read({"variant-int8": content, "gate": RECORDS["gate"]})
    assert list(facts.unreadable) == ["variant-int8"]
    assert reason in facts.unreadable["variant-int8"]
    assert facts.gate
    assert facts.variants == []


def test_records_of_kinds_that_the_report_does_not_show_are_passed_over() -> None:
    assert read({"another": [1], "plan": {"format": "fededge-plan-9"}}).unreadable == {}


def test_a_device_counts_with_its_latest_report() -> None:
    recorded = DeviceReports(devices=[device("a", version=1, at=100), device("b", version=1, at=300)])
    since = [device("a", version=2, at=200), device("b", version=2, at=200)]
    found = {found.device: found.version for found in read(contents({"devices": recorded}), since).devices}
    assert found == {"a": 2, "b": 1}


def test_steps_stand_in_the_order_of_their_start_and_times_without_a_zone_are_utc() -> None:
    started = {"a": "2026-01-01T00:00:02", "b": "2026-01-01T02:00:01+02:00", "c": "2026-01-01T00:00:03Z"}
    steps = {}
    for name, time in started.items():
        steps[f"steps/{name}"] = changed("steps/prepare_data", step=name, started=time)["steps/prepare_data"]
    assert [step.step for step in read(steps).steps] == ["b", "a", "c"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_content_of_a_record_raises(records: dict[str, Any]) -> None:
    facts = read(records)
    assert set(facts.unreadable) <= set(records)


@given(st.dictionaries(st.sampled_from(sorted(RECORDS["gate"])), JSON), st.sampled_from(sorted(RECORDS)))
def test_no_change_of_a_record_raises(changes: dict[str, Any], name: str) -> None:
    assert set(read(changed(name, **changes)).unreadable) <= {name}


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff",
        b"[" * 60_000,
        b'"text"',
        b'{"status": "running"}',
        b" " * (DeviceReport.LIMIT + 1),
        device("good").to_bytes(),
        device("odd").to_bytes().replace(b"device-report-2", b"device-report-3"),
    ],
)
def test_a_device_that_reports_nonsense_is_named_and_the_others_count(blob: bytes) -> None:
    folder = reports_url(settings.storage(), "digits")
    storage.write(f"{folder}/good.json", device("good").to_bytes())
    storage.write(f"{folder}/odd.json", blob)
    reports, refused = device_reports("digits")
    assert [report.device for report in reports] == ["good"]
    assert list(refused) == ["devices/odd.json"]
    assert list(read({}, reports, refused).unreadable) == ["devices/odd.json"]


def test_without_reports_there_is_nothing_to_name() -> None:
    assert device_reports("digits") == ([], {})


def test_a_blob_store_that_cannot_be_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDEDGE_STORAGE", "nowhere://bucket")
    assert list(device_reports("digits")[1]) == ["devices/*"]
