"""An update carries a delta, a count and metrics, and cannot carry anything else."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.errors import UpdateError
from fededge.update import Update, UpdateFormat
from fededge.weights import to_bytes

pytestmark = pytest.mark.environment("worker")
SHAPES = {"b/kernel": (3, 2), "a/bias": (2,)}
FORM = UpdateFormat(SHAPES, "class")


def update(scale: float = 1.0, examples: float = 5.0) -> Update:
    return Update(
        {name: np.full(shape, scale, np.float32) for name, shape in SHAPES.items()},
        examples,
        2.5,
        {"correct": 3.0},
    )


@given(scale=st.floats(-1e6, 1e6, width=32), examples=st.integers(3, 10**6))
def test_an_update_survives_its_bytes(scale: float, examples: int) -> None:
    back = FORM.screen(FORM.encode(update(scale, examples)), examples)
    assert back.examples == examples
    assert (back.loss_sum, back.sums) == (2.5, {"correct": 3.0})
    assert all((back.delta[name] == np.float32(scale)).all() for name in SHAPES)


@given(first=st.floats(-1e6, 1e6, width=32), examples=st.integers(3, 10**6))
def test_size_and_header_are_the_same_whatever_was_learned(first: float, examples: int) -> None:
    data = FORM.encode(update(first, examples))
    assert len(data) == FORM.size
    assert data[: FORM.offset] == FORM.encode(update())[: FORM.offset]


def test_an_update_has_exactly_the_models_tensors_and_three_numbers_and_no_room_beside_them() -> None:
    """A client that adds an example, a text or bytes at the end is refused, at both ends.

    What the delta's own floats may tell about examples is not bounded by the format.
    """
    example = np.zeros((28, 28, 1), np.float32)
    with pytest.raises(UpdateError):
        FORM.encode(Update(update().delta | {"x": example}, 5, 2.5, {"correct": 3}))
    honest = FORM.encode(update())
    tensors = {f"delta/{n}": v for n, v in update().delta.items()} | {
        "examples": np.array(5, np.float32),
        "metrics/correct": np.array(3, np.float32),
        "metrics/loss_sum": np.array(2.5, np.float32),
    }
    assert to_bytes(tensors) == honest
    for smuggled in (
        to_bytes(tensors | {"x": example}),
        to_bytes(tensors, {"note": "a secret"}),
        honest + b"a secret",
        honest[:-1],
        b"",
    ):
        with pytest.raises(UpdateError):
            FORM.screen(smuggled, 5)


def test_a_header_of_equal_length_with_other_names_types_or_shapes_is_refused() -> None:
    honest = FORM.encode(update())
    header = honest[8 : FORM.offset].decode()
    for change in (("b/kernel", "b/kernal"), ("[3,2]", "[2,3]"), ("F32", "I32")):
        assert change[0] in header
        forged = honest[:8] + header.replace(*change, 1).encode() + honest[FORM.offset :]
        assert len(forged) == FORM.size
        with pytest.raises(UpdateError, match="not those of the model"):
            FORM.screen(forged, 5)


def test_a_header_that_claims_a_huge_size_is_refused() -> None:
    honest = FORM.encode(update())
    with pytest.raises(UpdateError):
        FORM.screen(struct.pack("<Q", 2**62) + honest[8:], 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_refuses_the_update(bad: float) -> None:
    spoilt = update()
    spoilt.delta["b/kernel"][2, 1] = bad
    with pytest.raises(UpdateError, match="NaN or infinite"):
        FORM.screen(FORM.encode(spoilt), 5)


def test_counts_that_cannot_be_are_refused() -> None:
    for examples in (0.0, -1.0, 5.5, 1e30):
        with pytest.raises(UpdateError, match="can have made at most 5"):
            FORM.screen(FORM.encode(Update(update().delta, examples, 1.0, {"correct": 0.0})), 5)
    for correct in (3.0, -1.0):
        with pytest.raises(UpdateError, match="what cannot be: correct"):
            FORM.screen(FORM.encode(Update(update().delta, 2.0, 1.0, {"correct": correct})), 5)


def test_errors_of_numbers_that_cannot_be_are_refused() -> None:
    form = UpdateFormat(SHAPES, "number")
    good = {"squared_error": 2.0, "target": 5.0, "target_squared": 9.0}
    assert form.screen(form.encode(Update(update().delta, 5.0, 1.0, good)), 5).sums == good
    for bad in ({"squared_error": -1.0}, {"target_squared": -1.0}, {"target": 50.0}, {"squared_error": 2e30}):
        with pytest.raises(UpdateError, match="what cannot be"):
            form.screen(form.encode(Update(update().delta, 5.0, 1.0, good | bad)), 5)


def test_a_loss_that_cannot_be_is_refused() -> None:
    for loss_sum in (-1.0, 6e6):
        with pytest.raises(UpdateError, match="claims a loss"):
            FORM.screen(FORM.encode(Update(update().delta, 5.0, loss_sum, {"correct": 1.0})), 5)


def test_too_large_a_norm_is_refused() -> None:
    data = FORM.encode(update(1.0))
    FORM.screen(data, 5, np.sqrt(8) + 1e-3)
    with pytest.raises(UpdateError, match="norm"):
        FORM.screen(data, 5, np.sqrt(8) - 1e-3)


def test_the_header_names_nothing_but_the_models_tensors_and_counts() -> None:
    header = json.loads(FORM.encode(update())[8 : FORM.offset])
    assert set(header) == {
        "delta/a/bias",
        "delta/b/kernel",
        "examples",
        "metrics/correct",
        "metrics/loss_sum",
    }
