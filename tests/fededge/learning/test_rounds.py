"""The round loop over an engine of plain arithmetic: checkpoints, restarts and refusals."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import storage
from fededge.errors import DivergedError, IntegrityError, RoundError, StorageError
from fededge.learning.engines import Outcome
from fededge.learning.rounds import run_rounds
from fededge.learning.state import State, load
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("worker")


class Arithmetic:
    """Weights and server state follow from their predecessors and the round; dies when told to."""

    def __init__(self, dies_in: int | None = None) -> None:
        self.dies_in = dies_in
        self.rounds: list[int] = []

    def initialize(self) -> list[np.ndarray]:
        return [np.array(1.0, np.float32)]

    def next(self, weights, server, round_number, cohort):  # type: ignore[no-untyped-def]
        if round_number == self.dies_in:
            raise KeyboardInterrupt
        self.rounds.append(round_number)
        momentum = [server[0] * np.float32(0.9) + np.float32(len(cohort))]
        return Outcome({"w": weights["w"] + momentum[0] * round_number}, momentum, cohort, examples=10)


@pytest.fixture
def task(make_task: Callable[..., FederatedTask]) -> FederatedTask:
    return make_task()


def start(task: FederatedTask) -> State:
    return State(task.digest, 0, {"w": np.zeros(2, np.float32)}, [])


COHORTS = {1: ["a"], 2: ["a", "b"], 3: ["b"]}


def test_killed_in_any_round_and_run_again_gives_the_same_bits(task: FederatedTask, tmp_path: Path) -> None:
    whole = run_rounds(task, Arithmetic(), start(task), COHORTS, str(tmp_path / "whole"), lambda r: None)
    for dies_in in COHORTS:
        checkpoint = str(tmp_path / f"killed-{dies_in}")
        with pytest.raises(KeyboardInterrupt):
            run_rounds(task, Arithmetic(dies_in), start(task), COHORTS, checkpoint, lambda r: None)
        engine = Arithmetic()
        told: list[dict[str, Any]] = []
        again = run_rounds(task, engine, start(task), COHORTS, checkpoint, told.append)
        assert engine.rounds == [n for n in COHORTS if n >= dies_in]
        assert [record["round"] for record in told] == list(COHORTS)
        assert again.weights["w"].tobytes() == whole.weights["w"].tobytes()
        assert again.server[0].tobytes() == whole.server[0].tobytes()
        assert [r["cohort"] for r in again.history] == list(COHORTS.values())


def test_a_round_is_saved_before_it_is_reported(task: FederatedTask, tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "c")
    seen = []
    run_rounds(
        task, Arithmetic(), start(task), COHORTS, checkpoint, lambda r: seen.append(load(checkpoint).round)
    )
    assert seen == [1, 2, 3]


def test_a_finished_step_run_again_trains_nothing(task: FederatedTask, tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "c")
    first = run_rounds(task, Arithmetic(), start(task), COHORTS, checkpoint, lambda r: None)
    engine = Arithmetic()
    again = run_rounds(task, engine, start(task), COHORTS, checkpoint, lambda r: None)
    assert engine.rounds == []
    assert again.to_bytes() == first.to_bytes()


def test_a_checkpoint_of_another_start_is_not_taken(task: FederatedTask, tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "c")
    run_rounds(task, Arithmetic(), start(task), COHORTS, checkpoint, lambda r: None)
    engine = Arithmetic()
    other = replace(start(task), weights={"w": np.ones(2, np.float32)})
    run_rounds(task, engine, other, COHORTS, checkpoint, lambda r: None)
    assert engine.rounds == [1, 2, 3]


def test_a_checkpoint_of_other_cohorts_or_further_rounds_is_not_taken(
    task: FederatedTask, tmp_path: Path
) -> None:
    checkpoint = str(tmp_path / "c")
    run_rounds(task, Arithmetic(), start(task), COHORTS, checkpoint, lambda r: None)
    for cohorts in ({1: COHORTS[1], 2: COHORTS[2]}, {**COHORTS, 2: ["z"]}):
        engine = Arithmetic()
        state = run_rounds(task, engine, start(task), cohorts, checkpoint, lambda r: None)
        assert engine.rounds == sorted(cohorts)
        assert [record["round"] for record in state.history] == sorted(cohorts)


def test_steps_follow_on_each_other(task: FederatedTask, tmp_path: Path) -> None:
    whole = run_rounds(task, Arithmetic(), start(task), COHORTS, str(tmp_path / "w"), lambda r: None)
    one = run_rounds(task, Arithmetic(), start(task), {1: ["a"]}, str(tmp_path / "1"), lambda r: None)
    rest = {number: COHORTS[number] for number in (2, 3)}
    two = run_rounds(task, Arithmetic(), one, rest, str(tmp_path / "2"), lambda r: None)
    assert two.weights["w"].tobytes() == whole.weights["w"].tobytes()


def test_a_state_of_another_task_or_a_gap_is_refused(task: FederatedTask, tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="belongs to task"):
        run_rounds(task, Arithmetic(), replace(start(task), task="sha256:0"), COHORTS, str(tmp_path), print)
    with pytest.raises(RoundError, match="do not follow"):
        run_rounds(task, Arithmetic(), start(task), {2: ["a"]}, str(tmp_path / "c"), print)


def test_a_write_that_fails_keeps_the_last_round(
    task: FederatedTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(tmp_path / "c")
    real, calls = storage.os.fsync, []

    def full_after_two_rounds(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:  # a file and its folder are synced at each write
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(storage.os, "fsync", full_after_two_rounds)
    with pytest.raises(StorageError, match="No space left"):
        run_rounds(task, Arithmetic(), start(task), COHORTS, checkpoint, lambda r: None)
    monkeypatch.undo()
    assert load(checkpoint).round == 2


def test_weights_that_are_not_finite_are_not_kept(task: FederatedTask, tmp_path: Path) -> None:
    class Diverging(Arithmetic):
        def next(self, weights, server, round_number, cohort):  # type: ignore[no-untyped-def]
            outcome = super().next(weights, server, round_number, cohort)
            return replace(outcome, weights={"w": np.full(2, np.nan)}) if round_number == 2 else outcome

    checkpoint = str(tmp_path / "c")
    with pytest.raises(DivergedError, match="round 2"):
        run_rounds(task, Diverging(), start(task), COHORTS, checkpoint, lambda r: None)
    assert load(checkpoint).round == 1


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    from fededge.weights import to_bytes

    storage.write(str(tmp_path / "x"), to_bytes({"a": np.zeros(1, np.float32)}))
    with pytest.raises(IntegrityError, match="not a state"):
        load(tmp_path / "x")
