"""What a run shows while it is under way."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fededge.cli import live
from fededge.documents import RoundRecord, Score
from fededge.learning import rounds

ROOT = Path(__file__).resolve().parents[3]
TALK = """
from fededge.cli import live
with live.progress() as say:
    for line in {lines!r}:
        say(line)
"""


def said(number: int, seconds: float, score: Score | None = None) -> str:
    record = RoundRecord(
        round=number,
        cohort=["a", "b"],
        reported=["a"],
        examples=1,
        loss=0.5,
        score=0.25,
        seconds=seconds,
        at=0.0,
        held_out=score,
    )
    return f"run-rounds-2: {rounds.line(record, 20, 'accuracy')}"


def in_a_terminal(*lines: str) -> str:
    code = TALK.format(lines=list(lines))
    shown = subprocess.run(
        ["script", "-qec", f"{sys.executable} -c '{code.replace(chr(39), chr(34))}'", "/dev/null"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_a_terminal_shows_round_score_and_time_left() -> None:
    score = Score(score=0.8125, loss=0.4, examples=10)
    shown = in_a_terminal("prepare-data started", said(9, 3.0, score), said(10, 5.0, score))
    assert "prepare-data started" in shown
    assert re.search(r"round +10/20 .*held out 0\.8125, 0:00:40 left", shown)


def test_without_a_score_the_accuracy_in_training_is_shown() -> None:
    assert "accuracy in training 0.2500" in in_a_terminal(said(1, 1.0))


def test_elsewhere_only_plain_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    line = said(10, 5.0)
    with live.progress() as say:
        say("[bold]x")
        say(line)
    assert capsys.readouterr().out == f"[bold]x\n{line}\n"
