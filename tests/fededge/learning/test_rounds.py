"""The round loop over an engine of plain arithmetic: checkpoints, restarts and refusals."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fededge import storage
from fededge.client_reports import Usage
from fededge.documents import ClientCounts, RoundRecord
from fededge.errors import DivergedError, DocumentError, IntegrityError, RoundError, StorageError
from fededge.learning.checkpoints import Checkpoints
from fededge.learning.interfaces import RoundResult
from fededge.learning.rounds import run_rounds
from fededge.learning.state import State, load
from fededge.task import Prices

pytestmark = pytest.mark.environment("worker")

COHORTS = {1: ["a"], 2: ["a", "b"], 3: ["b"]}
KEY = bytes(range(32))


class Arithmetic:
    """Weights and server state follow from their predecessors and the round; dies when told to."""

    def __init__(self, dies_in: int | None = None, there: Sequence[str] = ("a", "b")) -> None:
        self.dies_in = dies_in
        self.there = list(there)
        self.rounds: list[int] = []

    def __enter__(self) -> "Arithmetic":
        return self

    def __exit__(self, *error: object) -> None: ...

    def initialize(self) -> list[np.ndarray]:
        return [np.array(1.0, np.float32)]

    def next(self, weights, server, round_number, cohort):  # type: ignore[no-untyped-def]
        if round_number == self.dies_in:
            raise KeyboardInterrupt
        self.rounds.append(round_number)
        momentum = [server[0] * np.float32(0.9) + np.float32(len(cohort))]
        moved = {"w": weights["w"] + momentum[0] * round_number}
        usage = Usage(bytes_sent=10**9, bytes_received=10**9, client_seconds=20.0)
        return RoundResult(moved, momentum, [client.id for client in cohort], examples=10, usage=usage)


class Scripted:
    """A selector that chooses as COHORTS says, among those that are there."""

    def __init__(self, engine: Arithmetic) -> None:
        self.engine = engine

    def select(self, round_number: int, history: Sequence[RoundRecord]) -> list[ClientCounts]:
        assert [record.round for record in history] == list(range(1, round_number))
        chosen = [client for client in COHORTS[round_number] if client in self.engine.there]
        return [ClientCounts(id=client, train=10, test=1) for client in chosen]


def start(**changes: object) -> State:
    return replace(State("task", 0, {"w": np.zeros(2, np.float32)}, []), **changes)  # type: ignore[arg-type]


def checkpoints(folder: Path, key: bytes = KEY, run: str = "run-1") -> Checkpoints:
    return Checkpoints(str(folder), run, key)


def run(folder: Path, engine: Arithmetic | None = None, until: int = 3, **options: object) -> State:
    state = options.pop("state", start())
    engine = engine or Arithmetic()
    return run_rounds(
        engine,
        Scripted(engine),
        state,  # type: ignore[arg-type]
        until,
        checkpoints(folder),
        **options,  # type: ignore[arg-type]
    )


def test_killed_in_any_round_and_run_again_gives_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    for dies_in in COHORTS:
        folder = tmp_path / f"killed-{dies_in}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, Arithmetic(dies_in))
        engine = Arithmetic()
        told: list[RoundRecord] = []
        again = run(folder, engine, on_round=told.append)
        assert engine.rounds == [n for n in COHORTS if n >= dies_in]
        assert [record.round for record in told] == list(COHORTS)
        assert again.weights["w"].tobytes() == whole.weights["w"].tobytes()
        assert again.server[0].tobytes() == whole.server[0].tobytes()
        assert [record.cohort for record in again.history] == list(COHORTS.values())


def test_a_round_is_saved_before_it_is_reported(tmp_path: Path) -> None:
    seen = []
    run(tmp_path, on_round=lambda record: seen.append(checkpoints(tmp_path).load(record.round).round))
    assert seen == [1, 2, 3]


def test_a_finished_step_run_again_trains_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    engine = Arithmetic()
    again = run(tmp_path, engine)
    assert engine.rounds == []
    assert again.to_bytes() == first.to_bytes()


def test_a_rounds_cohort_is_chosen_among_those_that_are_there_when_it_begins(tmp_path: Path) -> None:
    engine = Arithmetic()
    state = run(
        tmp_path, engine, on_round=lambda record: engine.there.remove("a") if record.round == 1 else None
    )
    assert [record.cohort for record in state.history] == [["a"], ["b"], ["b"]]
    with pytest.raises(RoundError, match="nobody is there"):
        run(tmp_path / "empty", Arithmetic(there=[]))


def test_a_resumed_run_replays_the_recorded_cohorts_whoever_is_there_now(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Arithmetic(dies_in=3))
    again = run(tmp_path, Arithmetic(there=["b"]))
    assert [record.cohort for record in again.history] == [["a"], ["a", "b"], ["b"]]


def test_a_round_costs_what_was_transferred_and_worked_by_the_prices_of_the_task(tmp_path: Path) -> None:
    prices = Prices(gigabyte=0.5, client_second=0.25)
    record = run(tmp_path / "priced", until=1, prices=prices).history[0]
    assert (record.bytes_sent, record.bytes_received, record.client_seconds) == (10**9, 10**9, 20.0)
    assert record.cost == pytest.approx(2 * 0.5 + 20 * 0.25)
    waiting = run(tmp_path / "waiting", until=1, prices=Prices(coordinator_second=2.0)).history[0]
    assert waiting.cost == pytest.approx(2 * waiting.coordinator_seconds)
    assert waiting.coordinator_seconds >= waiting.seconds
    assert run(tmp_path / "free", until=1).history[0].cost is None


def test_each_round_is_scored(tmp_path: Path) -> None:
    from fededge.documents import Score

    state = run(tmp_path, score=lambda w: Score(score=0.5, loss=float(w["w"][0]), examples=4))
    assert [record.held_out.loss for record in state.history if record.held_out] == pytest.approx(
        [1.9, 9.32, 22.337]
    )


def test_steps_follow_on_each_other_and_go_on_after_later_steps_were_killed(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    one = run(tmp_path / "steps", until=1)
    two = run(tmp_path / "steps", state=one)
    assert two.weights["w"].tobytes() == whole.weights["w"].tobytes()
    engine = Arithmetic()
    assert run(tmp_path / "steps", engine, until=1).round == 1
    assert engine.rounds == []


def test_a_checkpoint_of_another_start_is_not_taken(tmp_path: Path) -> None:
    first = run(tmp_path, until=1)
    run(tmp_path)
    engine = Arithmetic()
    said: list[str] = []
    other = replace(first, history=[first.history[0].model_copy(update={"loss": 9.0})])
    run(tmp_path, engine, state=other, on_passed_over=said.append)
    assert engine.rounds == [2, 3]
    assert "did not come from this state" in said[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file, others: file.write_bytes(file.read_bytes()[:-1] + b"\x01"),
        lambda file, others: file.write_bytes(file.read_bytes()[:100]),
        lambda file, others: file.write_bytes(b""),
        lambda file, others: file.write_bytes(others[1].read_bytes()),
        lambda file, others: file.write_bytes(start(round=3).to_bytes()),
        lambda file, others: checkpoints(file.parent, key=bytes(32)).save(load_trusted(file)),
        lambda file, others: checkpoints(file.parent, run="run-2").save(load_trusted(file)),
    ],
    ids=["changed", "cut", "empty", "another round's", "without a key", "another key", "another run"],
)
def test_a_bad_checkpoint_is_named_and_passed_over_for_the_last_good_one(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    whole = run(tmp_path)
    files = sorted(tmp_path.glob("*.checkpoint"))
    spoil(files[-1], [*files[1:], *files[:2]])
    engine = Arithmetic()
    said: list[str] = []
    again = run(tmp_path, engine, on_passed_over=said.append)
    assert engine.rounds == [3]
    assert len(said) == 1
    assert "checkpoint of round 3 passed over" in said[0]
    assert again.weights["w"].tobytes() == whole.weights["w"].tobytes()
    spoil(files[-1], [*files[1:], *files[:2]])
    with pytest.raises(IntegrityError):
        checkpoints(tmp_path).load(3)


def load_trusted(file: Path) -> State:
    return checkpoints(file.parent).load(3)


def test_poisoned_weights_that_only_the_stores_writer_made_never_reach_the_state(tmp_path: Path) -> None:
    whole = run(tmp_path)
    poisoned = replace(whole, weights={"w": np.full(2, 1e9, np.float32)})
    checkpoints(tmp_path, key=b"the writer does not know the key").save(poisoned)
    assert run(tmp_path).weights["w"].tobytes() == whole.weights["w"].tobytes()


def test_rounds_before_the_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="after round 1"):
        run(tmp_path, until=1, state=start(round=2))


def test_a_write_that_fails_keeps_the_last_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = storage.write

    def full_after_two_rounds(url: str, data: bytes) -> None:
        if "000003" in url:
            raise StorageError("No space left on device")
        real(url, data)

    monkeypatch.setattr(storage, "write", full_after_two_rounds)
    with pytest.raises(StorageError, match="No space left"):
        run(tmp_path)
    monkeypatch.undo()
    engine = Arithmetic()
    run(tmp_path, engine)
    assert engine.rounds == [3]


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    class Diverging(Arithmetic):
        def next(self, weights, server, round_number, cohort):  # type: ignore[no-untyped-def]
            result = super().next(weights, server, round_number, cohort)
            return replace(result, weights={"w": np.full(2, np.nan)}) if round_number == 2 else result

    with pytest.raises(DivergedError, match="round 2"):
        run(tmp_path, Diverging())
    engine = Arithmetic()
    run(tmp_path, engine)
    assert engine.rounds == [2, 3]


def test_files_that_are_no_state_are_refused_by_name(tmp_path: Path) -> None:
    from fededge.weights import to_bytes

    one = {"model/a": np.zeros(1, np.float32)}
    for metadata, words in (
        (None, "not a state"),
        ({"state": "{}"}, "task: Field required"),
        ({"state": '{"task": "t", "round": 2, "history": []}'}, "incomplete history"),
        ({"state": '{"format": "fededge-state-9", "task": "t", "round": 0, "history": []}'}, "newer"),
    ):
        storage.write(str(tmp_path / "x"), to_bytes(one, metadata))
        with pytest.raises((IntegrityError, DocumentError), match=words):
            load(tmp_path / "x")


def test_a_state_of_version_0_is_read(tmp_path: Path) -> None:
    from fededge.weights import to_bytes

    record = {"round": 1, "cohort": ["a"], "reported": ["a"], "failed": {}, "examples": 10.0, "loss": 1.0}
    header = '{"task": "t", "round": 1, "history": [%s]}'
    import json

    text = header % json.dumps(record | {"accuracy": 0.5, "seconds": 1.0, "at": 0.0})
    storage.write(str(tmp_path / "x"), to_bytes({"model/a": np.zeros(1, np.float32)}, {"state": text}))
    assert load(tmp_path / "x").round == 1


def test_a_state_of_another_task_is_refused(tmp_path: Path) -> None:
    mine, other = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    State(mine, 0, {"w": np.zeros(1, np.float32)}, []).save(tmp_path / "state")
    assert load(tmp_path / "state", mine).task == mine
    with pytest.raises(IntegrityError, match=r"is a state of the task sha256:aaa.*fededge run --fresh"):
        load(tmp_path / "state", other)
