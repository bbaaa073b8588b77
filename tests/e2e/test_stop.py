"""Stopping the command."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOT, Machine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_how_to_go_on(
    number: signal.Signals, machine: Machine, task: Callable[..., Path]
) -> None:
    command = [sys.executable, "-m", "fededge"]
    with subprocess.Popen(
        [*command, "run", str(task())],
        cwd=ROOT,
        env=machine.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "prepare-data started" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        assert process.wait() == 130
        assert process.stderr.read() == "stopped; the same command goes on after the steps that finished\n"
    (run,) = (machine.home / "runs").iterdir()
    assert json.loads((run / "run.json").read_bytes())["status"] == "stopped"
