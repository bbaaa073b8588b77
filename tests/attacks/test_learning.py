"""States, checkpoints and updates of an enemy: read, or refused by name in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fededge import weights
from fededge.documents import RoundRecord
from fededge.errors import IntegrityError, UpdateError
from fededge.learning.checkpoints import Checkpoints
from fededge.learning.state import State
from fededge.update import Update, UpdateFormat
from tests.attacks.hostile import PIECES, cases, changed, mutants, read_or_refused

RECORD = RoundRecord(
    round=1, cohort=["a"], reported=["a"], examples=1.0, loss=1.0, score=0.5, seconds=1.0, at=1.0
)
TENSORS = {"dense/kernel:0": np.ones((2, 3), np.float32), "dense/bias:0": np.zeros(3, np.float32)}
STATE = State("sha256:" + "a" * 64, 1, TENSORS, [np.ones(2, np.float32)], [RECORD])
FORMAT = UpdateFormat(weights.shapes(TENSORS), "class")
UPDATE = FORMAT.encode(Update(TENSORS, 5.0, 2.5, {"correct": 3.0}))
FEW = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def safetensors(header: Any, tail: bytes = b"\0" * 64) -> bytes:
    """A safetensors file with this header, whatever it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tail


def header_of(data: bytes) -> Any:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def state_refused_or_read(data: bytes) -> None:
    read_or_refused(lambda: weights.metadata_of(data), IntegrityError)
    state = read_or_refused(lambda: State.from_bytes(data))
    if state is not None:
        assert State.from_bytes(state.to_bytes()).to_bytes() == state.to_bytes()
        assert all(value.dtype == np.float32 for value in state.weights.values())


def update_refused_or_read(data: bytes) -> None:
    update = read_or_refused(lambda: FORMAT.screen(data, 10.0, 100.0), UpdateError)
    if update is not None:
        assert all(np.isfinite(value).all() for value in update.delta.values())
        assert 0 < update.examples <= 10
        assert FORMAT.encode(update) == data


@FEW
@given(mutants([STATE.to_bytes()]))
def test_changed_states_are_read_or_refused_by_name(data: bytes) -> None:
    state_refused_or_read(data)


@FEW
@given(changed(header_of(STATE.to_bytes())))
def test_states_with_a_changed_header_are_read_or_refused_by_name(header: Any) -> None:
    state_refused_or_read(safetensors(header))


@FEW
@given(changed(json.loads(header_of(STATE.to_bytes())["__metadata__"]["state"])))
def test_states_that_say_something_else_are_read_or_refused_by_name(content: Any) -> None:
    state_refused_or_read(
        weights.to_bytes({"model/a": np.ones(1, np.float32)}, {"state": json.dumps(content)})
    )


@pytest.mark.parametrize("piece", PIECES)
def test_headers_that_break_parsers_are_refused_by_name(piece: bytes) -> None:
    for data in (
        piece,
        safetensors(piece),
        safetensors(b'{"__metadata__":' + piece + b"}"),
        safetensors(b'{"__metadata__":{"state":' + piece + b"}}"),
        safetensors({"__metadata__": {"state": piece.decode("latin1")}}),
        (2**64 - 1).to_bytes(8, "little") + piece,
    ):
        state_refused_or_read(data)


@pytest.mark.parametrize("round_number", [10**12, 2**63, 10**300, -1, True, 1.0, None, "1"])
def test_a_number_of_rounds_that_the_history_does_not_have_is_refused(round_number: Any) -> None:
    content = {"format": "fededge-state-1", "task": "t", "round": round_number, "history": []}
    data = weights.to_bytes({"model/a": np.ones(1, np.float32)}, {"state": json.dumps(content)})
    assert read_or_refused(lambda: State.from_bytes(data)) is None


@pytest.mark.parametrize("dtype", ["int64", "float64", "bool", "uint8", "float16"])
def test_weights_of_another_type_are_refused(dtype: str) -> None:
    content = {"format": "fededge-state-1", "task": "t", "round": 0, "history": []}
    data = weights.to_bytes({"model/a": np.ones(1, dtype)}, {"state": json.dumps(content)})
    assert read_or_refused(lambda: State.from_bytes(data)) is None


@cases("states")
def test_states_that_once_did_harm_are_refused_by_name(case: bytes) -> None:
    assert read_or_refused(lambda: State.from_bytes(case)) is None
    read_or_refused(lambda: weights.metadata_of(case), IntegrityError)


@FEW
@given(mutants([UPDATE]))
def test_changed_updates_are_read_or_refused_by_name(data: bytes) -> None:
    update_refused_or_read(data)


@FEW
@given(st.binary(min_size=len(UPDATE) - FORMAT.offset, max_size=len(UPDATE) - FORMAT.offset))
def test_any_numbers_in_an_update_are_read_or_refused_by_name(tail: bytes) -> None:
    update_refused_or_read(UPDATE[: FORMAT.offset] + tail)


@FEW
@given(st.lists(st.floats(width=32), min_size=12, max_size=12))
def test_extreme_numbers_in_an_update_are_read_or_refused_by_name(values: list[float]) -> None:
    update_refused_or_read(UPDATE[: FORMAT.offset] + np.array(values, "<f4").tobytes())


@FEW
@given(st.data())
def test_only_the_checkpoint_that_was_written_is_read(tmp_path: Path, data: st.DataObject) -> None:
    checkpoints = Checkpoints(str(tmp_path), "run", b"k" * 32)
    checkpoints.save(STATE)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    bad = data.draw(mutants([good]))
    file.write_bytes(bad)
    told: list[str] = []
    state = checkpoints.newest(0, 9, told.append)
    assert (state is None) == (bad != good)
    assert all(line.isprintable() for line in told)


@pytest.mark.parametrize("name", ["9" * 200, "²", "-1", "1.0", "", "0", "1"])
def test_names_that_are_no_checkpoint_are_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.checkpoint").write_bytes(b"x")
    assert Checkpoints(str(tmp_path), "run", b"k" * 32).newest(0, 9, lambda line: None) is None
