"""The runner on LiteRT hands in what TensorFlow hands in, and refuses what it cannot execute."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import storage
from fededge.documents import Plan
from fededge.processes import ended_with_parent
from fededge.update import Update, UpdateFormat
from fededge.weights import from_bytes, to_bytes

pytestmark = pytest.mark.environment("edge")
ROOT = Path(__file__).resolve().parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "litert"
COMMAND = [sys.executable, "-m", "fededge.device.litert_runner"]
EXAMPLES, EPOCHS = 21, 2


class Runner:
    """A runner process over a copy of the plan and the client that TensorFlow worked on."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.plan, self.weights = home / "plan", home / "weights"
        self._process: subprocess.Popen[str] | None = None

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """The answer to a request; a process is started for the first one."""
        if self._process is None:
            self._process = subprocess.Popen(
                ended_with_parent([*COMMAND, "--plan", str(self.plan), "--data", str(self.home / "client")]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                text=True,
            )
        assert self._process.stdin
        assert self._process.stdout
        request = {
            "do": what,
            "weights": str(self.weights),
            "seed": 3,
            "round": 1,
            "client": "a",
            "update": str(self.home / "update"),
        }
        self._process.stdin.write(json.dumps(request | more) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def update(self) -> Update:
        """What it handed in."""
        form = UpdateFormat.of(Plan.read(self.plan / "plan.json"))
        return form.screen((self.home / "update").read_bytes(), EXAMPLES * EPOCHS)

    def change(self, **fields: Any) -> None:
        """Write the plan's document with other fields."""
        document = Plan.read(self.plan / "plan.json")
        document.model_copy(update=fields).write(self.plan / "plan.json")

    def end(self) -> int:
        """Close its input, and wait; its exit status."""
        if self._process is None:
            return 0
        self._process.communicate()
        return self._process.returncode


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    shutil.copytree(FIXTURE, tmp_path / "home")
    (tmp_path / "home" / "update").unlink()
    made = Runner(tmp_path / "home")
    yield made
    assert made.end() == 0


def test_it_hands_in_what_tensorflow_handed_in(runner: Runner) -> None:
    assert runner.ask("train") == {}
    ours = runner.update()
    form = UpdateFormat.of(Plan.read(runner.plan / "plan.json"))
    theirs = form.screen((FIXTURE / "update").read_bytes(), EXAMPLES * EPOCHS)
    assert ours.examples == theirs.examples == EXAMPLES * EPOCHS
    for name, value in theirs.delta.items():
        assert (value != 0).any(), name
        np.testing.assert_allclose(ours.delta[name], value, rtol=0, atol=1e-6)
    assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=1e-5)
    assert ours.sums == theirs.sums
    counts = json.loads((FIXTURE / "counts.json").read_text())
    assert runner.ask("evaluate")["counts"] == pytest.approx(counts, rel=1e-5)


def test_the_same_request_gives_the_same_bytes_whatever_was_asked_before(runner: Runner) -> None:
    files = []
    for changes in ({}, {"round": 2}, {}, {"client": "b"}):
        assert runner.ask("train", **changes) == {}
        files.append((runner.home / "update").read_bytes())
    assert files[0] == files[2]
    assert len({*files}) == 3


def test_a_slow_client_learns_from_a_share_of_its_examples(runner: Runner) -> None:
    assert runner.ask("train", share=0.5) == {}
    assert runner.update().examples == math.ceil(EXAMPLES / 2) * EPOCHS


def test_it_measures_no_ranges(runner: Runner) -> None:
    assert "measures no ranges" in runner.ask("ranges")["error"]


def test_training_that_leaves_the_finite_numbers_is_told(runner: Runner) -> None:
    weights = from_bytes(runner.weights.read_bytes())
    runner.weights.write_bytes(
        to_bytes({name: np.full_like(value, np.inf) for name, value in weights.items()})
    )
    assert "diverged" in runner.ask("train")["error"]
    assert not (runner.home / "update").exists()


def test_a_changed_file_is_not_opened(runner: Runner) -> None:
    file = runner.plan / "client.tflite"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "was changed or damaged" in runner.ask("train")["error"]


def test_a_file_that_is_none_is_told(runner: Runner) -> None:
    data = (ROOT / "tests" / "fixtures" / "first.tflite").read_bytes()
    program = Plan.read(runner.plan / "plan.json").litert
    assert program is not None
    for wrong in (b"nothing of the kind", data):
        (runner.plan / "client.tflite").write_bytes(wrong)
        runner.change(litert=program.model_copy(update={"digest": storage.digest(wrong)}))
        other = Runner(runner.home)
        assert "is no LiteRT file that trains" in other.ask("train")["error"]
        assert other.end() == 0


def test_a_plan_without_a_litert_file_tells_why(runner: Runner) -> None:
    runner.change(litert=None, litert_refused="layer memory has a loop")
    error = runner.ask("train")["error"]
    assert "layer memory has a loop" in error
    assert "worker environment" in error


def test_it_says_whose_plans_it_executes() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*COMMAND, "--frameworks"], capture_output=True, env=environment, check=True)
    assert json.loads(done.stdout) == ["keras"]
