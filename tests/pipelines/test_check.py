"""The check of a task's data in the worker environment, as a command and before a run."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from fededge import task as tasks
from fededge.cli import main
from fededge.errors import DataError, EnvironmentMissing, StorageError
from fededge.host.layout import VENVS
from pipelines import runs
from pipelines.check import check, check_before_running, check_before_submitting

TEXT = "name: t\ndata: {source: npz, path: data.npz}\nvariants: [{kind: float32}]\n"


@pytest.fixture(autouse=True)
def _worker() -> None:
    if not (VENVS / "worker" / "bin" / "python3").exists():
        pytest.skip("the worker environment is not set up: run `python -m fededge.host`")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    x, y = np.zeros((60, 28, 28), np.uint8), np.arange(60) % 10
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "task.yaml").write_text(TEXT)
    return tmp_path / "task.yaml"


def test_good_data_are_told_in_a_table_and_nothing_is_written(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(task.parent.iterdir())
    assert main(["check", str(task), "--set", "partition.kind=iid"]) == 0
    assert "60 training and 60 test examples" in capsys.readouterr().out
    assert sorted(task.parent.iterdir()) == before


def test_a_mistake_in_the_data_ends_with_status_2_and_its_message(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(task), "--set", "partition.clients=40"]) == 2
    error = capsys.readouterr().err
    assert "partition.min_examples" in error
    assert error.count("\n") == 1


def test_errors_of_the_worker_environment_come_by_their_names(task: Path) -> None:
    (task.parent / "data.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="npz"):
        check(tasks.load(task))
    (task.parent / "data.npz").unlink()
    with pytest.raises(StorageError, match=r"data\.npz"):
        check(tasks.load(task))


def test_a_worker_that_dies_is_told_with_its_last_words(task: Path, tmp_path: Path) -> None:
    program = tmp_path / "worker" / "bin" / "python3"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho out of memory >&2\nkill -9 $$\n")
    program.chmod(0o755)
    with pytest.raises(DataError, match="out of memory"):
        check(tasks.load(task), tmp_path)


def test_a_run_that_goes_on_is_not_checked_again(task: Path, tmp_path: Path) -> None:
    spec, home = tasks.load(task), tmp_path / "home"
    with pytest.raises(KeyboardInterrupt), runs.begin(spec, home):
        raise KeyboardInterrupt
    (task.parent / "data.npz").unlink()
    check_before_running(spec, home, fresh=False)
    with pytest.raises(StorageError):
        check_before_running(spec, home, fresh=True)
    with pytest.raises(StorageError):
        check_before_running(tasks.load(task, ["seed=5"]), home, fresh=False)


def test_what_runs_elsewhere_is_checked_as_far_as_this_machine_can(task: Path, tmp_path: Path) -> None:
    (task.parent / "data.npz").unlink()
    with pytest.raises(StorageError):
        check_before_submitting(tasks.load(task))
    check_before_submitting(tasks.load(task, ["data.path=s3://bucket/data.npz"]))
    with pytest.raises(EnvironmentMissing):
        check(tasks.load(task), tmp_path)
    check_before_submitting(tasks.load(task), tmp_path)


def test_the_check_imports_no_tensorflow(task: Path) -> None:
    code = "import sys, fededge.learning.data.checking as c; sys.exit('tensorflow' in sys.modules)"
    python = VENVS / "worker" / "bin" / "python3"
    assert subprocess.run([python, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
