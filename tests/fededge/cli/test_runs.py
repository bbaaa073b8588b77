"""`fededge runs` and its verbs, on runs that never took a step."""

import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from fededge import settings
from fededge.cli import main
from fededge.documents import RoundRecord, Score, StepOutcome, Steps
from fededge.task import FederatedTask, parse
from fededge.tracking.run import TrackedRun
from pipelines import runs

Captured = pytest.CaptureFixture[str]
TASK = parse("name: a-name-that-is-rather-long-for-a-task\ndata: {source: digits}\n")
START = datetime(2026, 1, 1, tzinfo=UTC)


def ended(error: BaseException | None = None, task: FederatedTask = TASK) -> str:
    """Id of a run that ended well or with `error`."""
    with pytest.raises(type(error)) if error else contextlib.nullcontext():
        with runs.begin(task, settings.home(), fresh=True) as (run, _):
            if error:
                raise error
    return run.id


def with_steps(run: str) -> None:
    folder = settings.home() / "runs" / run
    (folder / "logs").mkdir()
    steps = {}
    outcomes: list[tuple[str, Literal["succeeded", "running"]]] = [
        ("z-first", "succeeded"),
        ("a-second", "running"),
    ]
    for index, (name, status) in enumerate(outcomes):
        (folder / "logs" / f"{name}.log").write_text(f"log of {name}\n")
        started = START + timedelta(seconds=index)
        steps[name] = StepOutcome(started=started, seconds=1.25, status=status)
    (folder / "logs" / "kfp.log").write_text("log of kfp\n")
    Steps(steps=steps).write(folder / "steps.json")


def listed(capsys: Captured, *arguments: str) -> list[dict[str, object]]:
    assert main(["runs", *arguments, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_runs_are_listed_with_one_line_of_outcome(capsys: Captured) -> None:
    good, bad = ended(), ended(ValueError("step x failed: no\nTraceback (most recent call last)\n ..."))
    rows = {str(row["run"]): row for row in listed(capsys)}
    assert rows[good]["state"] == "succeeded"
    assert (rows[bad]["state"], rows[bad]["outcome"]) == ("failed", "step x failed: no")
    assert listed(capsys, "list") == list(rows.values())
    assert len(listed(capsys, "list", "--limit", "1")) == 1
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert {line.split()[0] for line in lines[1:]} == {good, bad}


def test_a_run_s_id_is_whole_in_a_narrow_terminal(tmp_path: Path) -> None:
    run = ended(ValueError("a long story " * 10))
    command = f"{sys.executable} -m fededge runs"
    shown = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env={**os.environ, "COLUMNS": "40", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert run in shown


def test_damaged_runs_are_passed_over_by_name(capsys: Captured) -> None:
    run = ended()
    broken = settings.home() / "runs" / "broken" / "run.json"
    broken.parent.mkdir()
    broken.write_text("{")
    assert main(["runs"]) == 0
    captured = capsys.readouterr()
    assert run in captured.out
    assert captured.err.startswith(f"passed over: {broken} is not JSON")
    assert main(["runs", "show", "broken"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {broken} is not JSON")


@pytest.mark.parametrize("name", ["steps.json", "run.json", "task.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "fededge-run-1"}'])
def test_a_damaged_file_of_a_run_is_one_message(name: str, content: str, capsys: Captured) -> None:
    run = ended()
    (settings.home() / "runs" / run / name).write_text(content)
    for command in (["runs"], ["runs", "show", run], ["runs", "logs", run], ["report", run]):
        status = main(command)
        captured = capsys.readouterr()
        assert status in (0, 2), captured.err
        assert "Traceback" not in captured.err
        assert captured.err.count("\n") <= 1


def test_shows_a_run_and_its_steps(capsys: Captured) -> None:
    run = ended(KeyboardInterrupt())
    with_steps(run)
    assert main(["runs", "show", run, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["run"], shown["status"], shown["task"]) == (run, "stopped", TASK.name)
    assert [(step["step"], step["status"]) for step in shown["steps"]] == [
        ("z-first", "succeeded"),
        ("a-second", "stopped"),
    ]
    assert main(["runs", "show", run]) == 0
    assert f"folder: {settings.home() / 'runs' / run}" in capsys.readouterr().out


def test_prints_logs_in_the_order_of_the_steps_or_one_by_name(capsys: Captured) -> None:
    run = ended()
    with_steps(run)
    assert main(["runs", "logs", run]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "==> z-first <==",
        "log of z-first",
        "==> a-second <==",
        "log of a-second",
    ]
    assert main(["runs", "logs", run, "kfp"]) == 0
    assert capsys.readouterr().out == "log of kfp\n"
    assert main(["runs", "logs", run, "../run"]) == 2
    assert "has no log of a step '../run': it has a-second, kfp, z-first" in capsys.readouterr().err


def test_a_run_that_is_over_cannot_be_canceled(capsys: Captured) -> None:
    run = ended()
    assert main(["runs", "cancel", run]) == 2
    assert capsys.readouterr().err == f"error: run {run} is not under way: it is succeeded\n"
    assert main(["runs", "cancel", "ghost"]) == 2
    assert "no run ghost" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_compares_runs_by_what_differs(capsys: Captured, tmp_path: Path) -> None:
    tasks = {"run-a": TASK, "run-b": TASK.model_copy(update={"seed": 5})}
    for shift, (run, task) in enumerate(tasks.items()):
        with TrackedRun.join(run, task).step("run_rounds-0001") as step:
            for number in (1, 2):
                score = Score(score=0.5 + number / 10 + shift / 100, loss=0.3, examples=10)
                step.round(
                    RoundRecord(
                        round=number,
                        cohort=["a"],
                        reported=["a"],
                        examples=1,
                        loss=0.5,
                        score=0.5,
                        seconds=1.0,
                        at=1_700_000_000.0,
                        held_out=score,
                    ),
                    "accuracy",
                )
    page = tmp_path / "page.html"
    assert main(["runs", "compare", "run-a", "run-b", "--html", str(page), "--json"]) == 0
    rows = {row[""]: (row["run-a"], row["run-b"]) for row in json.loads(capsys.readouterr().out)}
    assert rows["seed"] == ("0", "5")
    assert "learning.rounds" not in rows
    assert rows["held_out/accuracy"] == (pytest.approx(0.7), pytest.approx(0.71))
    text = page.read_text()
    assert "<svg" in text
    assert "run-a: 0.7000 after round 2; run-b: 0.7100 after round 2" in text
    assert "<script" not in text
    assert main(["runs", "compare", "run-a", "run-b"]) == 0
    assert "0.71" in capsys.readouterr().out
    assert main(["runs", "compare", "run-a", "it's none"]) == 2
    assert "has no run of pipeline run it's none" in capsys.readouterr().err
    assert main(["runs", "compare", "run-a", "run-a"]) == 2
