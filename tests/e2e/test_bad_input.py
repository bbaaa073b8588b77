"""Each mistake of a user ends with status 2 and one message, and leaves nothing half-written."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fededge.documents import Steps

from .conftest import Ended, Machine

pytestmark = pytest.mark.environment("platform")

Write = Callable[..., Path]
DATA = "{source: digits}"


def message(ended: Ended) -> str:
    """The one message of a command that must have ended with status 2."""
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("rounds: 2", "ruonds: 2", "learning.ruonds: unknown key; did you mean rounds?"),
        ("rounds: 2", "rounds: 999999999999", "less than or equal to 1000000"),
        ("rounds: 2", "rounds: 2\n  rounds_per_step: 1", "this key is now operation.rounds_per_step"),
        ("rounds: 2", "rounds: two", "learning.rounds"),
        ("clients: 3", "clients: 0", "partition.clients"),
        ("size: 2", "size: 4", "learning.cohort.size is 4 but the population has only 3"),
        ("seed: 7", "seed: [7", "is not YAML"),
        ("seed: 7", "seed: 7\nseed: 8", "seed: given twice, first in line 2"),
    ],
)
def test_a_mistake_in_the_task_file(old: str, new: str, named: str, machine: Machine, task: Write) -> None:
    for verb in ("run", "check"):
        assert named in message(machine.fededge(verb, task((old, new))))
    assert not machine.home.exists()


def test_a_mistake_in_a_change_is_told_as_its_place(machine: Machine, task: Write) -> None:
    for verb in (["run"], ["check"], ["compile", "-o", "never.yaml"]):
        said = message(machine.fededge(*verb, task(), "--set", "learning.rounds=x"))
        assert "--set learning.rounds=x: learning.rounds" in said
    assert not machine.home.exists()


def test_a_missing_task_file(machine: Machine, tmp_path: Path) -> None:
    assert "none.yaml" in message(machine.fededge("run", tmp_path / "none.yaml"))


@pytest.mark.parametrize("mistake", ["missing", "nan", "shape", "labels"])
def test_bad_data_end_a_run_before_its_first_step(
    mistake: str, machine: Machine, task: Write, tmp_path: Path
) -> None:
    x, y = np.zeros((60, 28, 28), np.float32), np.arange(60) % 10
    if mistake == "nan":
        x[3, 4, 5] = np.nan
    if mistake == "shape":
        x = x[:, :7]
    if mistake == "labels":
        y = np.full(60, 2**63 + 5, np.uint64)
    file = tmp_path / "data.npz"
    if mistake != "missing":
        np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    words = {"missing": "data.npz", "nan": "NaN", "shape": "shape", "labels": "label"}[mistake]
    spec = task((DATA, f"{{source: npz, path: {file}}}"))
    verbs: list[list[str | Path]] = [
        ["check", spec],
        ["run", spec],
        ["compile", spec, "-o", tmp_path / "never.yaml"],
    ]
    for verb in verbs:
        assert words in message(machine.fededge(*verb))
    assert not machine.home.exists()
    assert not (tmp_path / "never.yaml").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_updates_of_diverged_clients_and_then_a_tampered_artifact(machine: Machine, task: Write) -> None:
    file = task(("learning_rate: 0.05", "learning_rate: 1.0e+30"))
    said = message(machine.fededge("run", file))
    assert "round 1 has 0 usable reports of 2" in said
    assert "site-" in said
    (run,) = (machine.home / "runs").iterdir()
    assert not list(run.glob("artifacts/*/run-rounds/next_state"))
    (summary,) = run.glob("artifacts/*/prepare-data/population")
    summary.write_text(summary.read_text().replace("site-0", "site-9"))
    said = message(machine.fededge("run", file))
    assert "digest" in said
    assert "prepare-data" in said


def test_a_full_disk(machine: Machine, task: Write, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    target = tmp_path / "pipeline.yaml"
    target.write_text("before")
    said = message(machine.fededge("compile", task(), "-o", target, preexec_fn=small_files))
    assert str(target) in said
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["pipeline.yaml"]


@pytest.mark.slow
def test_a_disk_that_fills_during_a_run(machine: Machine, task: Write) -> None:
    def smaller_files_than_the_data() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    said = message(machine.fededge("run", task(), preexec_fn=smaller_files_than_the_data))
    assert "cannot write" in said
    assert "prepare-data" in said
    (run,) = (machine.home / "runs").iterdir()
    assert Steps.read(run / "steps.json").steps["prepare-data"].status == "failed"


def test_an_unreachable_mlflow(machine: Machine, task: Write) -> None:
    ended = machine.fededge("run", task(), variables={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert "http://127.0.0.1:9" in message(ended)
    (run,) = (machine.home / "runs").iterdir()
    assert f"report: {run / 'report.html'}" in ended.stdout
    assert "http://127.0.0.1:9" in (run / "report.html").read_text()


def test_an_unreachable_kubeflow(machine: Machine, task: Write) -> None:
    variables = {"KF_PIPELINES_ENDPOINT": "http://127.0.0.1:9"}
    said = message(machine.fededge("run", task(), "--on", "kubeflow", variables=variables))
    assert "http://127.0.0.1:9" in said
