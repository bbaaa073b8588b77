"""Runs on this machine: which one a command goes on with."""

import json
from pathlib import Path

import pytest

from fededge.errors import StorageError
from fededge.task import FederatedTask
from pipelines import runs

TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')
OTHER = FederatedTask.from_json('{"name": "digits", "seed": 1, "data": {"source": "digits"}}')


def stopped(task: FederatedTask, home: Path, error: BaseException) -> runs.Run:
    with pytest.raises(type(error)):
        with runs.begin(task, home) as (run, _):
            raise error
    return run


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("bad\nluck"), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_goes_on_with_a_run_that_did_not_finish(error: BaseException, status: str, tmp_path: Path) -> None:
    first = stopped(TASK, tmp_path, error)
    (listed,) = runs.all_runs(tmp_path)
    assert listed.status == status
    assert "\n" not in listed.outcome
    with runs.begin(TASK, tmp_path) as (second, resumed):
        assert (second.id, resumed) == (first.id, True)


def test_starts_anew_after_a_run_that_finished_or_for_another_task_or_when_told(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (first, _):
        pass
    second = stopped(TASK, tmp_path, ValueError())
    with runs.begin(OTHER, tmp_path) as (other, resumed):
        assert not resumed
    with runs.begin(TASK, tmp_path, fresh=True) as (third, resumed):
        assert not resumed
    assert len({first.id, second.id, other.id, third.id}) == 4
    assert [run.status for run in runs.all_runs(tmp_path)].count("succeeded") == 3


def test_an_unfinished_run_before_a_finished_one_is_left(tmp_path: Path) -> None:
    first = stopped(TASK, tmp_path, ValueError())
    with runs.begin(TASK, tmp_path, fresh=True) as (second, _):
        second.started = "2999-01-01T00:00:00+00:00"
    with runs.begin(TASK, tmp_path) as (third, resumed):
        assert not resumed
        assert third.id != first.id


def test_leaves_a_run_alone_that_is_under_way(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (first, _):
        with runs.begin(TASK, tmp_path) as (second, resumed):
            assert not resumed
            assert second.id != first.id


def test_finds_a_run_and_its_task(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no runs in"):
        runs.find(tmp_path)
    with runs.begin(OTHER, tmp_path) as (run, _):
        pass
    assert runs.find(tmp_path) == (run, OTHER)
    assert runs.find(tmp_path, run.id) == (run, OTHER)
    with pytest.raises(StorageError, match="no run ghost"):
        runs.find(tmp_path, "ghost")


def test_artifacts_are_found_by_step_and_name(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (run, _):
        assert run.artifact(tmp_path, "prepare-data", "data") is None
        (run.folder(tmp_path) / "steps.json").write_text(json.dumps({"prepare-data": {"data": "/a/b"}}))
        assert run.artifact(tmp_path, "prepare-data", "data") == Path("/a/b")
        assert run.artifact(tmp_path, "prepare-data", "test") is None


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StorageError, match="FEDEDGE_HOME"):
        with runs.begin(TASK, tmp_path):
            pass


def test_foreign_files_among_the_runs_are_passed_over(tmp_path: Path) -> None:
    for name, content in (("a", "{"), ("b", "[]"), ("c", '{"id": "c"}')):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(content)
    assert runs.all_runs(tmp_path) == []
