"""Writing the report beside the records in MLflow, in real SQLite stores."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fededge import settings, storage
from fededge.documents import Ending, reports_url
from fededge.errors import ReportError, StorageError, TrackingError
from fededge.report import end_run, write_report
from fededge.report.records import KINDS, PREFIXES
from fededge.tracking.run import TrackedRun
from tests.fededge.report.example import DEVICES, RECORDS, TASK, device


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture
def one_store(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One MLflow store for all tests that leave it as it is: making one takes seconds."""
    monkeypatch.setenv("FEDEDGE_HOME", str(shared_home))


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", str(request.node.name))[:80]


def track(run: str, *names: str) -> TrackedRun:
    """An MLflow run with these records of the example."""
    tracked = TrackedRun.join(run, TASK)
    with tracked.step("everything") as step:
        for name in names:
            kind = KINDS.get(name) or next(k for prefix, k in PREFIXES.items() if name.startswith(prefix))
            step.record(name, kind.from_content(RECORDS[name]))
    return tracked


def mlflow_run(tracked: TrackedRun) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(settings.tracking_uri()).get_run(tracked.run_id)


def kept(tracked: TrackedRun) -> bytes:
    return storage.read(f"{tracked.artifact_uri}/report/report.html")


def files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.usefixtures("one_store")
class TestWriting:
    def test_the_report_lies_at_its_path_and_in_mlflow_and_the_run_is_ended(
        self, run: str, tmp_path: Path
    ) -> None:
        tracked = track(run, "data", "rounds-0001", "version")
        path = tmp_path / "out" / "report.html"
        assert end_run(TASK, run, path, "SUCCEEDED", None).outcome.title == "Delivered"
        assert b"Delivered" in path.read_bytes()
        assert kept(tracked) == path.read_bytes()
        assert mlflow_run(tracked).info.status == "FINISHED"
        assert Ending.from_content(tracked.records()["ending"]).state == "SUCCEEDED"

    def test_written_again_it_keeps_the_ending_and_shows_devices_that_reported_since(
        self, run: str, tmp_path: Path
    ) -> None:
        tracked = track(run, "version", "release")
        path = tmp_path / "report.html"
        assert end_run(TASK, run, path, "SUCCEEDED", None).devices == []
        folder = reports_url(settings.storage(), TASK.name)
        for found in DEVICES:
            storage.write(f"{folder}/{found.device}.json", found.to_bytes())
        again = write_report(TASK, run, path)
        assert again.outcome.title == "Delivered"
        assert {row.status for row in again.devices} == {"running"}
        assert b"sensor-hub-6" in path.read_bytes()
        assert kept(tracked) == path.read_bytes()
        assert mlflow_run(tracked).info.status == "FINISHED"

    def test_a_run_that_failed_early_shows_the_step_and_fails_its_mlflow_run(
        self, run: str, tmp_path: Path
    ) -> None:
        tracked = TrackedRun.join(run, TASK)
        with pytest.raises(ValueError, match="NaN"), tracked.step("prepare_data"):
            raise ValueError("data has NaN at 17")
        path = tmp_path / "report.html"
        outcome = end_run(TASK, run, path, "FAILED", "Task prepare-data failed.").outcome
        assert (outcome.title, outcome.step, outcome.detail) == (
            "Failed",
            "prepare_data",
            "data has NaN at 17",
        )
        assert b"data has NaN at 17" in path.read_bytes()
        assert mlflow_run(tracked).info.status == "FAILED"

    def test_a_damaged_record_is_named_on_the_page(self, run: str, tmp_path: Path) -> None:
        from mlflow import MlflowClient

        tracked = track(run, "version")
        MlflowClient(settings.tracking_uri()).log_text(tracked.run_id, '{"format', "records/gate.json")
        report = end_run(TASK, run, tmp_path / "report.html", "SUCCEEDED", None)
        assert list(report.facts.unreadable) == ["gate"]
        assert report.outcome.title == "Delivered"

    def test_a_path_that_cannot_be_written_is_named(self, run: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="cannot write"):
            end_run(TASK, run, tmp_path / "file" / "report.html", "SUCCEEDED", None)


@pytest.mark.usefixtures("one_store")
class TestWithoutMLflow:
    @pytest.fixture(autouse=True)
    def _unreachable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def test_the_end_of_a_run_has_a_page_that_says_so(self, run: str, tmp_path: Path) -> None:
        path = tmp_path / "report.html"
        for _ in range(2):
            with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
                end_run(TASK, run, path, "SUCCEEDED", None)
            assert b"127.0.0.1:9" in path.read_bytes()
            assert b"Failed" in path.read_bytes()

    def test_a_report_is_not_overwritten(
        self, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "report.html"
        with monkeypatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI")
            track(run, "data", "version")
            end_run(TASK, run, path, "SUCCEEDED", None)
        good = path.read_bytes()
        with pytest.raises(TrackingError):
            write_report(TASK, run, path)
        with pytest.raises(TrackingError):
            end_run(TASK, run, path, "FAILED", None)
        assert path.read_bytes() == good


class TestLosses:
    """A report that stands when its store was moved, lost or changed."""

    @pytest.fixture
    def home(self, store: Path) -> Path:
        return store.parent

    @pytest.fixture
    def page(self, home: Path, run: str) -> Path:
        page = home / "runs" / run / "report.html"
        track(run, "data", "rounds-0001", "version")
        end_run(TASK, run, page, "SUCCEEDED", None)
        return page

    def test_a_home_that_was_moved_leaves_the_report_and_back_in_place_it_is_written(
        self, home: Path, page: Path, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        good, moved = page.read_bytes(), tmp_path / "moved"
        shutil.move(home, moved)
        monkeypatch.setenv("FEDEDGE_HOME", str(moved))
        with pytest.raises(ReportError, match=r"no records.*FEDEDGE_HOME was moved"):
            write_report(TASK, run, moved / page.relative_to(home))
        assert (moved / page.relative_to(home)).read_bytes() == good
        assert not home.exists()
        shutil.move(moved, home)
        monkeypatch.setenv("FEDEDGE_HOME", str(home))
        assert write_report(TASK, run, page).outcome.title == "Delivered"

    def test_without_mlflow_db_the_report_stays_and_nothing_is_created(
        self, home: Path, page: Path, run: str
    ) -> None:
        (home / "mlflow.db").unlink()
        before = files(home)
        with pytest.raises(TrackingError, match=f"no run of pipeline run {run}"):
            write_report(TASK, run, page)
        assert files(home) == before

    def test_a_store_that_does_not_know_the_run_leaves_the_report(
        self, home: Path, page: Path, run: str, empty_store: Path
    ) -> None:
        good = page.read_bytes()
        shutil.copy(empty_store, home / "mlflow.db")
        with pytest.raises(TrackingError, match=f"no run of pipeline run {run}"):
            write_report(TASK, run, page)
        assert page.read_bytes() == good

    def test_a_run_of_another_task_is_not_reported(self, page: Path, run: str) -> None:
        other = TASK.model_copy(update={"seed": 99})
        with pytest.raises(TrackingError, match="learns task"):
            write_report(other, run, page)

    def test_fewer_records_than_the_page_shows_leave_it_and_its_copy_in_mlflow(
        self, page: Path, run: str
    ) -> None:
        good = page.read_bytes()
        tracked = TrackedRun.find(run, TASK)
        storage.remove(f"{tracked.artifact_uri}/records/rounds-0001.json")
        with pytest.raises(ReportError, match=r"shows more than can be read now \(rounds 4, now 0\)"):
            write_report(TASK, run, page)
        assert page.read_bytes() == good == kept(tracked)

    def test_another_blob_store_does_not_take_the_devices_from_the_page(
        self, page: Path, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = reports_url(settings.storage(), TASK.name)
        storage.write(f"{folder}/camera-1.json", device().to_bytes())
        write_report(TASK, run, page)
        good = page.read_bytes()
        monkeypatch.setenv("FEDEDGE_STORAGE", str(tmp_path / "elsewhere"))
        with pytest.raises(ReportError, match="devices 1, now 0"):
            write_report(TASK, run, page)
        assert page.read_bytes() == good

    def test_once_the_page_is_moved_away_what_is_left_is_written(self, page: Path, run: str) -> None:
        tracked = TrackedRun.find(run, TASK)
        for record in ("data", "rounds-0001"):
            storage.remove(f"{tracked.artifact_uri}/records/{record}.json")
        page.rename(page.with_suffix(".old"))
        assert write_report(TASK, run, page).facts.population is None
