"""Warm interpreters: steps are forks that find everything as it was imported."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from fededge.host.layout import ROOT
from pipelines.step_process import StepProcess
from pipelines.warm import WarmInterpreter, component, imported

from .waiting import wait_for

SCRIPT = "python3 -m kfp.dsl.executor_main --component_module_path ..."
STEP = dedent("""
    def step():
        import imported_once
        import os, sys

        print(os.getpid(), os.getppid(), imported_once.steps, os.environ["STEP"], flush=True)
        imported_once.steps += 1
        imported_once.act()
        sys.exit(int(os.environ["STEP"]))
""")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module that steps import."""
    file = tmp_path / "imported_once.py"
    file.write_text("steps = 0\ndef act(): pass\n")
    return file


@pytest.fixture
def warm(module: Path, tmp_path: Path) -> Iterator[WarmInterpreter]:
    interpreter = WarmInterpreter(Path(sys.executable), [STEP], variables(tmp_path), tmp_path / "warm.log")
    yield interpreter
    interpreter.close()


def variables(folder: Path, step: int = 0) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{folder}",
        "_KFP_RUNTIME": "true",
        "STEP": str(step),
        "CHILD": str(folder / "child"),
    }


def command(folder: Path) -> list[str]:
    inputs = {"inputs": {}, "outputs": {"outputFile": str(folder / "executor_output.json")}}
    return [
        *("sh", "-ec", SCRIPT, STEP),
        *("--executor_input", json.dumps(inputs), "--function_to_execute", "step"),
    ]


def start(warm: WarmInterpreter, folder: Path, step: int) -> StepProcess | None:
    log = folder / f"{step}.log"
    log.touch()
    process = warm.start(command(folder), folder, variables(folder, step), log)
    return StepProcess(process, log) if process else None


def end(process: StepProcess | None) -> int:
    assert process is not None
    return process.wait(lambda line: None)


def said(folder: Path, step: int) -> list[int]:
    """What a step says of itself: its process id, its parent's, earlier steps, its number."""

    def lines() -> list[list[str]]:
        split = [line.split() for line in (folder / f"{step}.log").read_text().splitlines()]
        return [words for words in split if len(words) == 4 and all(word.isdigit() for word in words)]

    wait_for(lambda: bool(lines()))
    return list(map(int, lines()[0]))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_step_finds_the_imports_as_made_and_has_variables_and_an_end_of_its_own(
    warm: WarmInterpreter, tmp_path: Path
) -> None:
    assert [end(start(warm, tmp_path, step)) for step in (0, 3)] == [0, 3]
    (first, one, *rest), (second, same, *others) = said(tmp_path, 0), said(tmp_path, 3)
    assert first != second
    assert one == same
    assert (rest, others) == ([0, 0], [0, 3])


def test_steps_run_side_by_side(module: Path, warm: WarmInterpreter, tmp_path: Path) -> None:
    module.write_text("import time\nsteps = 0\ndef act(): time.sleep(1.0)\n")
    both = [start(warm, tmp_path, step) for step in (0, 1)]
    assert [said(tmp_path, step)[3] for step in (0, 1)] == [0, 1]
    assert [end(process) for process in both] == [0, 1]


def test_a_stopped_step_ends_with_what_it_started(
    module: Path, warm: WarmInterpreter, tmp_path: Path
) -> None:
    module.write_text(
        "import os, subprocess\nsteps = 0\n"
        "def act():\n"
        "    child = subprocess.Popen(['sleep', '100'])\n"
        "    open(os.environ['CHILD'], 'w').write(str(child.pid))\n"
        "    child.wait()\n"
    )
    process = start(warm, tmp_path, 0)
    child = tmp_path / "child"
    wait_for(lambda: child.exists() and child.read_text() != "")
    assert process is not None
    process.stop()
    assert end(process) == -signal.SIGTERM
    wait_for(lambda: not runs(int(child.read_text())))


def test_a_step_ends_with_its_killed_interpreter_and_the_next_one_is_left_to_start_cold(
    module: Path, warm: WarmInterpreter, tmp_path: Path
) -> None:
    module.write_text("import time\nsteps = 0\ndef act(): time.sleep(100)\n")
    process = start(warm, tmp_path, 0)
    os.kill(said(tmp_path, 0)[1], signal.SIGKILL)
    assert end(process) == -signal.SIGKILL
    assert start(warm, tmp_path, 1) is None


def test_an_import_that_starts_a_thread_or_fails_leaves_steps_to_start_cold(
    module: Path, tmp_path: Path
) -> None:
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
    for content, told in ((thread, "an import started a thread"), ("1 / 0\n", "ZeroDivisionError")):
        module.write_text(content)
        log = tmp_path / "warm.log"
        interpreter = WarmInterpreter(Path(sys.executable), [STEP], variables(tmp_path), log)
        assert start(interpreter, tmp_path, 0) is None
        interpreter.close()
        assert told in log.read_text()


def test_only_a_command_that_runs_a_component_and_no_more_is_taken(tmp_path: Path) -> None:
    assert component(command(tmp_path)) == STEP
    assert component(["sh", "-ec", "pip install x; " + SCRIPT, STEP]) is None
    assert component(["echo", "hello"]) is None
    assert component([]) is None


def test_names_what_a_source_imports() -> None:
    source = "import a.b\ndef f():\n    from c import d\n    from .e import g\n"
    assert imported(source) == {"a.b", "c", "c.d"}
