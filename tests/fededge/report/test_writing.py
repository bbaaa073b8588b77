"""Writing the report beside the records in MLflow."""

import json
from pathlib import Path
from typing import Any

import pytest

from fededge import settings, storage
from fededge.errors import StorageError, TrackingError
from fededge.report import end_run, write_report
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

EXAMPLE = json.loads((Path(__file__).parent / "report_example.json").read_text())
TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture(autouse=True)
def _one_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests here share one MLflow store, which takes seconds to make."""
    monkeypatch.setenv("FEDEDGE_HOME", str(home))


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def track(run: str, records: dict[str, Any]) -> TrackedRun:
    tracked = TrackedRun.join(run, TASK)
    with tracked.step("everything") as step:
        for name, content in records.items():
            step.record(name, content)
    return tracked


def mlflow_run(tracked: TrackedRun) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(settings.tracking_uri()).get_run(tracked.run_id)


def kept(tracked: TrackedRun) -> bytes:
    return storage.read(f"{tracked.artifact_uri}/report/report.html")


def test_the_report_of_a_run_lies_at_its_path_and_in_mlflow_and_the_run_is_ended(
    run: str, tmp_path: Path
) -> None:
    tracked = track(run, {name: EXAMPLE["records"][name] for name in ("data", "rounds-0001", "version")})
    path = tmp_path / "out" / "report.html"
    assert end_run(TASK, run, path, "SUCCEEDED", None).outcome.title == "Delivered"
    assert b"Delivered" in path.read_bytes()
    assert kept(tracked) == path.read_bytes()
    assert mlflow_run(tracked).info.status == "FINISHED"


def test_written_again_it_keeps_the_ending_and_shows_devices_that_reported_since(
    run: str, tmp_path: Path
) -> None:
    tracked = track(run, {"version": EXAMPLE["records"]["version"]})
    path = tmp_path / "report.html"
    assert end_run(TASK, run, path, "SUCCEEDED", None).devices == []
    folder = storage.join(settings.storage(), "fleet", TASK.name, "devices")
    for name, content in EXAMPLE["devices"].items():
        storage.write(storage.join(folder, name), json.dumps(content).encode())
    again = write_report(TASK, run, path)
    assert again.outcome.title == "Delivered"
    assert {device.verdict for device in again.devices} == {"running"}
    assert b"sensor-hub-6" in path.read_bytes()
    assert kept(tracked) == path.read_bytes()
    assert mlflow_run(tracked).info.status == "FINISHED"


def test_a_run_that_failed_early_shows_the_step_and_fails_its_mlflow_run(run: str, tmp_path: Path) -> None:
    tracked = TrackedRun.join(run, TASK)
    with pytest.raises(ValueError, match="NaN"), tracked.step("prepare_data"):
        raise ValueError("data has NaN at 17")
    path = tmp_path / "report.html"
    outcome = end_run(TASK, run, path, "FAILED", "Task prepare-data failed.").outcome
    assert (outcome.title, outcome.step, outcome.detail) == ("Failed", "prepare_data", "data has NaN at 17")
    assert b"data has NaN at 17" in path.read_bytes()
    assert mlflow_run(tracked).info.status == "FAILED"


def test_without_mlflow_the_end_of_a_run_has_a_page_that_says_so(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    path = tmp_path / "report.html"
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        end_run(TASK, run, path, "SUCCEEDED", None)
    assert b"127.0.0.1:9" in path.read_bytes()
    assert b"Failed" in path.read_bytes()


def test_without_mlflow_a_good_report_is_not_overwritten(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("the report of yesterday")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError):
        write_report(TASK, run, path)
    assert path.read_text() == "the report of yesterday"


def test_a_path_that_cannot_be_written_is_said(run: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        end_run(TASK, run, tmp_path / "file" / "report.html", "SUCCEEDED", None)
