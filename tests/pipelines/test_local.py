"""The local runner, on throw-away pipelines."""

import builtins
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp.local import config, subprocess_task_handler

from fededge.documents import Steps
from fededge.errors import DataError, DocumentError, EnvironmentMissing, StorageError
from fededge.host.layout import ROOT
from fededge.task import parse
from pipelines.environments import interpreter_folder
from pipelines.local import run_local
from pipelines.local_steps import StepFailed

Compiled = Callable[[str], Path]
TASK = parse("name: digits\ndata: {source: digits}\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shared"
    made.mkdir()
    return made


def test_runs_conditions_loops_collected_artifacts_and_the_exit_handler(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    run_local(
        compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, say=said.append, environments=environments
    )
    assert (folder / "gathered").read_text() == "aa bb cc"
    assert (folder / "status").read_text() == "SUCCEEDED"
    assert "count started" in said
    assert "count: counted 1" in said
    assert any(line.startswith("gather finished after ") for line in said)
    assert {f"double.{number} started" for number in (1, 2, 3)} <= set(said)
    logs = tmp_path / "runs" / "r1" / "logs"
    assert {log.name for log in logs.glob("double*")} == {f"double.{n}.log" for n in (1, 2, 3)}
    assert "counted 1" in (logs / "count.log").read_text()
    steps = Steps.read(tmp_path / "runs" / "r1" / "steps.json").steps
    assert Path(steps["count"].artifacts["total"]).read_text() == "1 r1"
    assert {step.status for step in steps.values()} == {"succeeded"}


def test_goes_on_after_the_steps_that_finished(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    package = compiled("whole")
    (folder / "fail").write_text("named")
    for _ in range(2):
        with pytest.raises(DataError):
            run_local(package, {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    (folder / "fail").unlink()
    run_local(package, {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    assert (folder / "count").read_text() == "1"
    assert (folder / "scored").read_text() == "x"
    assert (folder / "gathered").read_text() == "aa bb cc"
    run_local(package, {"folder": str(folder)}, "r2", tmp_path, environments=environments)
    assert (folder / "count").read_text() == "2"


def test_a_step_whose_artifact_is_gone_runs_again(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    package = compiled("whole")
    run_local(package, {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    steps = Steps.read(tmp_path / "runs" / "r1" / "steps.json").steps
    Path(steps["count"].artifacts["total"]).unlink()
    run_local(package, {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    assert (folder / "count").read_text() == "2"


def test_a_named_error_of_a_step_is_raised_by_its_name(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    (folder / "fail").write_text("named")
    with pytest.raises(DataError, match="x is not finite: clean it") as caught:
        run_local(compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    assert str(tmp_path / "runs" / "r1" / "logs" / "gather.log") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder / "status").read_text() == "FAILED"


def test_any_other_error_shows_the_end_of_the_log(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    (folder / "fail").write_text("odd")
    with pytest.raises(StepFailed) as caught:
        run_local(compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    first, *rest = str(caught.value).splitlines()
    assert first == "step gather failed: KeyError: 'odd'"
    assert "Traceback (most recent call last):" in rest
    assert Steps.read(tmp_path / "runs" / "r1" / "steps.json").steps["gather"].status == "failed"


def test_after_a_failure_only_the_exit_handler_starts(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    with pytest.raises(StepFailed, match="step stumble"):
        run_local(compiled("branches"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    assert (folder / "stumbled").read_text() == "x"
    assert (folder / "status").read_text() == "FAILED"


def test_steps_that_could_run_in_any_order_run_in_the_order_of_their_names(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    run_local(
        compiled("scattered"),
        {"folder": str(folder)},
        "r1",
        tmp_path,
        say=said.append,
        environments=environments,
    )
    started = [line for line in said if line.endswith(" started")]
    assert started == [f"count{suffix} started" for suffix in ("", "-2", "-3", "-4", "-5")]


def test_outputs_that_kubeflow_cannot_carry_are_a_failure(
    compiled: Compiled, environments: Path, tmp_path: Path
) -> None:
    with pytest.raises(StepFailed, match="NaN"):
        run_local(compiled("divergent"), {}, "r1", tmp_path, environments=environments)


@pytest.mark.parametrize(
    "said", ["[Errno 28] No space left on device: 'x.npy'", "328496 requested and 249968 written"]
)
def test_a_full_disk_in_a_step_is_named(
    said: str, compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    (folder / "fail").write_text(said)
    with pytest.raises(StorageError, match=r"step gather cannot write its files: .*Free space"):
        run_local(compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)


def test_a_run_folder_that_cannot_be_made_is_named(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(StorageError, match="cannot keep the files of run r1"):
        run_local(compiled("inspect"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)


def test_a_damaged_list_of_steps_is_named_before_anything_runs(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    steps = tmp_path / "runs" / "r1" / "steps.json"
    steps.parent.mkdir(parents=True)
    steps.write_text('{"count": ')
    with pytest.raises(DocumentError, match=r"steps\.json is not JSON, or cut short\. Start a new run"):
        run_local(compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    assert list(folder.iterdir()) == []


def test_temporary_files_of_a_killed_step_lie_with_the_run_and_go_with_its_end(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    leftover = tmp_path / "runs" / "r1" / "tmp" / "of-an-earlier-try"
    leftover.mkdir(parents=True)
    with pytest.raises(StepFailed):
        run_local(compiled("littering"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    made = Path((folder / "made").read_text())
    assert made.parent == leftover.parent
    assert list(leftover.parent.iterdir()) == []


def test_any_path_will_do_as_home(compiled: Compiled, environments: Path, tmp_path: Path) -> None:
    home = tmp_path / "josé's #1 home? 100%25"
    folder = home / "shared"
    folder.mkdir(parents=True)
    run_local(compiled("whole"), {"folder": str(folder)}, "r1", home, environments=environments)
    assert (folder / "gathered").read_text() == "aa bb cc"
    assert (folder / "status").read_text() == "SUCCEEDED"
    run_local(compiled("whole"), {"folder": str(folder)}, "r1", home, environments=environments)
    assert (folder / "count").read_text() == "1"
    run_local(compiled("stored"), {"task": TASK.to_json()}, "r2", home, environments=environments)
    assert (home / "storage" / "some where" / "blob #1").read_bytes() == b"kept"
    assert (home / "mlflow.db").is_file()
    assert list((home / "mlartifacts").rglob("records/steps/keep.json"))
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {home.name, environments.name, "whole.yaml", "stored.yaml"}


def test_puts_back_what_kfp_changes_in_this_process(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    root = logging.getLogger()
    before = (
        builtins.print,
        root.handlers[:],
        root.level,
        config.LocalExecutionConfig.instance,
        subprocess_task_handler.SubprocessTaskHandler,
        signal.getsignal(signal.SIGTERM),
        sys.stdout,
    )
    run_local(compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    after = (
        builtins.print,
        root.handlers[:],
        root.level,
        config.LocalExecutionConfig.instance,
        subprocess_task_handler.SubprocessTaskHandler,
        signal.getsignal(signal.SIGTERM),
        sys.stdout,
    )
    assert after == before


def test_says_what_kfp_says_only_in_its_log(
    compiled: Compiled,
    folder: Path,
    environments: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_local(compiled("inspect"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" after ")[0] for line in lines] == ["settings started", "settings finished"]
    assert "Executing task" in (tmp_path / "runs" / "r1" / "logs" / "kfp.log").read_text()


def test_a_step_sees_the_settings_of_this_machine(
    compiled: Compiled,
    folder: Path,
    environments: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEDEDGE_STORAGE", "memory://elsewhere")
    run_local(compiled("inspect"), {"folder": str(folder)}, "r1", tmp_path, environments=environments)
    seen = json.loads((folder / "settings").read_bytes())
    assert seen["FEDEDGE_PLATFORM"] == "local"
    assert seen["FEDEDGE_HOME"] == str(tmp_path)
    assert seen["FEDEDGE_STORAGE"] == "memory://elsewhere"
    assert seen["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert seen["FEDEDGE_SIGNING_KEY_FILE"] == str(tmp_path / "keys/release.pem")
    assert seen["FROM_PIPELINE"] == "1"
    assert seen["executable"].startswith(str(environments / "platform"))
    assert str(ROOT) in seen["PYTHONPATH"].split(os.pathsep)


def test_refuses_an_image_without_an_environment_before_anything_runs(
    compiled: Compiled, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentMissing, match="make run"):
        run_local(compiled("whole"), {"folder": str(folder)}, "r1", tmp_path, environments=tmp_path / "no")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("image", ["python:3.11", "registry:5000/python@sha256:0f", "platform-x:1"])
def test_refuses_a_foreign_image(image: str, environments: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="Kubeflow"):
        interpreter_folder(image, environments)


@pytest.mark.parametrize("image", ["worker", "ghcr.io/fededge/worker:0.1.0", "host:5000/a/worker@sha256:0f"])
def test_maps_an_image_by_the_last_segment_of_its_name(image: str, environments: Path) -> None:
    assert interpreter_folder(image, environments) == environments / "worker" / "bin"


@pytest.mark.parametrize("pipeline", ["endless", "endless_loop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_no_process(
    number: signal.Signals,
    pipeline: str,
    compiled: Compiled,
    folder: Path,
    environments: Path,
    tmp_path: Path,
) -> None:
    owner = _start(compiled(pipeline), folder, environments, tmp_path)
    step, child = _pids(folder, owner)
    owner.send_signal(number)
    assert owner.wait(60) != 0
    assert b"KeyboardInterrupt" in owner.stderr.read()  # type: ignore[union-attr]
    _gone(step)
    _gone(child)


def test_a_step_dies_with_its_killed_owner(
    compiled: Compiled, folder: Path, environments: Path, tmp_path: Path
) -> None:
    owner = _start(compiled("endless"), folder, environments, tmp_path)
    step, child = _pids(folder, owner)
    owner.kill()
    owner.wait(60)
    _gone(step)
    os.kill(child, signal.SIGKILL)  # a step's own children are its own business


def _start(package: Path, folder: Path, environments: Path, home: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from pipelines.local import run_local\n"
        "run_local(sys.argv[1], {'folder': sys.argv[2]}, 'r1', Path(sys.argv[4]), "
        "environments=Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, *map(str, (package, folder, environments, home))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _pids(folder: Path, owner: subprocess.Popen[bytes]) -> tuple[int, int]:
    while not (folder / "pids").exists():
        assert owner.poll() is None, owner.stderr.read().decode()  # type: ignore[union-attr]
        time.sleep(0.05)
    step, child = map(int, (folder / "pids").read_text().split())
    return step, child


def _gone(pid: int) -> None:
    """Wait until process `pid` has ended (the test's own time limit is the deadline)."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
