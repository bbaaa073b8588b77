"""write_report: the exit handler that writes the report."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local

from components.delivery.write_report.component import write_report
from fededge.documents import Ending
from fededge.errors import TaskError, TrackingError
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

ROOT = Path(__file__).resolve().parents[3]
TASK = FederatedTask.from_json('{"name": "tiny", "data": {"source": "digits"}}')


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture(autouse=True)
def _one_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tests here share one MLflow store, which takes seconds to make."""
    monkeypatch.setenv("FEDEDGE_HOME", str(home))


def status(state: str, message: str | None = None) -> dsl.PipelineTaskFinalStatus:
    code = 1 if message else None
    return dsl.PipelineTaskFinalStatus(state, "job", "body", code, message)


def test_the_report_of_a_succeeded_run(plain: Any, artifact: Any) -> None:
    report = artifact(dsl.HTML, "report")
    plain("delivery/write_report")(TASK.to_json(), "run-1", status("SUCCEEDED"), report)
    assert "<title>tiny: Finished" in Path(report.path).read_text()
    assert report.metadata["outcome"] == "Finished"


def test_a_retry_writes_the_report_of_the_same_run(plain: Any, artifact: Any) -> None:
    report = artifact(dsl.HTML, "report")
    for _ in range(2):
        plain("delivery/write_report")(TASK.to_json(), "run-2", status("FAILED", "pod evicted"), report)
    assert "pod evicted" in Path(report.path).read_text()
    ending = Ending.from_content(TrackedRun.find("run-2", TASK).records()["ending"])
    assert ending == Ending(state="FAILED", error="pod evicted")


def test_a_retry_while_mlflow_is_out_of_reach_leaves_the_report(
    plain: Any, artifact: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = artifact(dsl.HTML, "report")
    with TrackedRun.join("run-3", TASK).step("prepare_data"):
        pass
    plain("delivery/write_report")(TASK.to_json(), "run-3", status("SUCCEEDED"), report)
    good = Path(report.path).read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError):
        plain("delivery/write_report")(TASK.to_json(), "run-3", status("SUCCEEDED"), report)
    assert Path(report.path).read_bytes() == good


def test_a_task_that_is_none_leaves_no_report(plain: Any, artifact: Any) -> None:
    report = artifact(dsl.HTML, "report")
    with pytest.raises(TaskError):
        plain("delivery/write_report")("{}", "run-1", status("SUCCEEDED"), report)
    assert not Path(report.path).exists()


@dsl.component(base_image="python", install_kfp_package=False)
def broken(task: str, run: str) -> None:
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    with TrackedRun.join(run, FederatedTask.from_json(task)).step("broken"):
        raise ValueError("the disk is on fire")


@dsl.pipeline(name="always-reported")
def always_reported(task: str, run: str) -> None:
    handler = write_report(task=task, run=run)
    with dsl.ExitHandler(handler):
        broken(task=task, run=run)


def test_a_pipeline_that_fails_still_has_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(local.config.LocalExecutionConfig, "instance", None)
    local.init(
        local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=False
    )
    always_reported(task=TASK.to_json(), run="run-7")
    (page,) = (tmp_path / "root").rglob("report")
    text = page.read_text()
    assert "Step broken failed." in text
    assert "the disk is on fire" in text
    ending = TrackedRun.find("run-7", TASK).records()["ending"]
    assert Ending.from_content(ending).state == "FAILED"
