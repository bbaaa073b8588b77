"""Runs on this machine: which one a command goes on with, what is shown of them, and how one is canceled."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fededge.documents import StepOutcome, Steps
from fededge.errors import DocumentError, RunError, StorageError, TaskError
from fededge.host.layout import ROOT
from fededge.task import FederatedTask, parse
from pipelines import runs

TASK = parse("name: digits\ndata: {source: digits}\n")
OTHER = parse("name: digits\nseed: 1\ndata: {source: digits}\n")
PATIENT = parse(
    "name: digits\ndata: {source: digits}\noperation: {round_deadline_seconds: 1200, quorum: 1}\n"
)
UNDER_WAY = """
import sys, time
from pathlib import Path
from fededge.task import FederatedTask
from pipelines import runs
with runs.begin(FederatedTask.from_json(sys.argv[1]), Path(sys.argv[2])) as (run, _):
    print(run.id, flush=True)
    time.sleep(600)
"""


def stopped(task: FederatedTask, home: Path, error: BaseException) -> runs.Run:
    with pytest.raises(type(error)):
        with runs.begin(task, home) as (run, _):
            raise error
    return run


def under_way(home: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", UNDER_WAY, TASK.to_json(), str(home)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("bad\nluck"), "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_goes_on_with_a_run_that_did_not_finish(error: BaseException, status: str, tmp_path: Path) -> None:
    first = stopped(TASK, tmp_path, error)
    (listed,) = runs.all_runs(tmp_path)
    assert listed.status(tmp_path) == status
    with runs.begin(TASK, tmp_path) as (second, resumed):
        assert (second.id, resumed) == (first.id, True)


def test_a_run_goes_on_with_another_operation(tmp_path: Path) -> None:
    first = stopped(TASK, tmp_path, ValueError("deadline"))
    with runs.begin(PATIENT, tmp_path) as (second, resumed):
        assert (second.id, resumed) == (first.id, True)
    run, task = runs.find(tmp_path)
    assert task == PATIENT
    assert run.record.digest == PATIENT.digest
    assert run.record.identity == TASK.identity


def test_the_outcome_is_one_short_line(tmp_path: Path) -> None:
    stopped(
        TASK,
        tmp_path,
        ValueError(f"step x failed: {'long ' * 100}\nTraceback (most recent call last):\n  ..."),
    )
    outcome = runs.all_runs(tmp_path)[0].record.outcome
    assert outcome.startswith("step x failed: long")
    assert "Traceback" not in outcome
    assert len(outcome) <= 200


def test_starts_anew_after_a_run_that_finished_or_for_another_task_or_when_told(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (first, _):
        pass
    second = stopped(TASK, tmp_path, ValueError())
    with runs.begin(OTHER, tmp_path) as (other, resumed):
        assert not resumed
    with runs.begin(TASK, tmp_path, fresh=True) as (third, resumed):
        assert not resumed
    assert len({first.id, second.id, other.id, third.id}) == 4
    assert [run.status(tmp_path) for run in runs.all_runs(tmp_path)].count("succeeded") == 3


def test_an_unfinished_run_before_a_finished_one_is_left(tmp_path: Path) -> None:
    first = stopped(TASK, tmp_path, ValueError())
    with runs.begin(TASK, tmp_path, fresh=True) as (second, _):
        second.save(tmp_path, started=datetime(2999, 1, 1, tzinfo=UTC))
    with runs.begin(TASK, tmp_path) as (third, resumed):
        assert not resumed
        assert third.id != first.id


def test_leaves_a_run_alone_that_is_under_way(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (first, _):
        assert first.status(tmp_path) == "running"
        with runs.begin(TASK, tmp_path) as (second, resumed):
            assert not resumed
            assert second.id != first.id


def test_a_killed_run_is_interrupted_and_can_be_gone_on_with(tmp_path: Path) -> None:
    process, name = under_way(tmp_path)
    process.kill()
    process.wait()
    (run,) = runs.all_runs(tmp_path)
    assert run.status(tmp_path) == "interrupted"
    with runs.begin(TASK, tmp_path) as (second, resumed):
        assert (second.id, resumed) == (name, True)


def test_cancel_ends_the_process_that_runs_it(tmp_path: Path) -> None:
    process, name = under_way(tmp_path)
    assert runs.named(tmp_path, name).status(tmp_path) == "running"
    runs.cancel(tmp_path, name)
    assert process.wait() == -signal.SIGTERM
    with pytest.raises(RunError, match=f"run {name} is not under way: it is interrupted"):
        runs.cancel(tmp_path, name)


def test_cancel_takes_no_other_process_for_the_one_that_runs_it(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            with runs.begin(TASK, tmp_path) as (run, _):
                boot, namespace, _, start = run.record.process.split()
                run.save(tmp_path, process=f"{boot} {namespace} {bystander.pid} {start}")
                with pytest.raises(RunError, match="not as a process that is to be seen from here"):
                    runs.cancel(tmp_path, run.id)
                run.save(tmp_path, process="")
                with pytest.raises(RunError, match="not as a process"):
                    runs.cancel(tmp_path, run.id)
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_finds_a_run_and_its_task(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no runs in"):
        runs.find(tmp_path)
    with runs.begin(OTHER, tmp_path) as (run, _):
        pass
    assert runs.find(tmp_path) == (run, OTHER)
    assert runs.find(tmp_path, run.id) == (run, OTHER)
    with pytest.raises(RunError, match="no run ghost"):
        runs.find(tmp_path, "ghost")


def test_artifacts_are_found_by_step_and_name(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (run, _):
        assert run.artifact(tmp_path, "prepare-data", "data") is None
        done = StepOutcome(
            started=datetime.now(UTC), seconds=1.0, status="succeeded", artifacts={"data": "/a/b"}
        )
        again = done.model_copy(update={"status": "running"})
        Steps(steps={"prepare-data": done, "evaluate": again}).write(run.folder(tmp_path) / "steps.json")
        assert run.artifact(tmp_path, "prepare-data", "data") == Path("/a/b")
        assert run.artifact(tmp_path, "prepare-data", "test") is None
        assert run.artifact(tmp_path, "evaluate", "data") is None


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StorageError, match="FEDEDGE_HOME"):
        with runs.begin(TASK, tmp_path):
            pass


def test_damaged_runs_are_passed_over_by_name(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (good, _):
        pass
    record = (good.folder(tmp_path) / "run.json").read_text()
    damaged = {
        "a": "{",
        "b": "[]",
        "c": '{"id": "c"}',
        "d": "",
        "e": '{"format": "fededge-run-99"}',
        "f": record,
    }
    for name, content in damaged.items():
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "run.json").write_text(content)
    found, named = runs.scan(tmp_path)
    assert [run.id for run in found] == [good.id]
    assert set(named) == set(damaged)
    assert all(str(tmp_path / "runs" / name / "run.json") in str(error) for name, error in named.items())
    with pytest.raises(DocumentError, match="cut short"):
        runs.named(tmp_path, "a")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"name": "x"}', b"[" * 100_000])
def test_a_damaged_task_or_list_of_steps_is_named(content: bytes, tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (run, _):
        pass
    for name in ("task.json", "steps.json"):
        (run.folder(tmp_path) / name).write_bytes(content)
    with pytest.raises(TaskError, match=r"task\.json is damaged"):
        runs.find(tmp_path)
    with pytest.raises(DocumentError, match=r"steps\.json"):
        run.artifact(tmp_path, "prepare-data", "data")
    with runs.begin(TASK, tmp_path, fresh=True) as (other, _):
        assert other.id != run.id


def test_a_run_under_way_of_this_very_process_has_its_mark(tmp_path: Path) -> None:
    with runs.begin(TASK, tmp_path) as (run, _):
        assert run.record.process.split()[2] == str(os.getpid())
