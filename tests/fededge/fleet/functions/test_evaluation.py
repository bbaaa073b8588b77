"""Metrics of a task's model follow from what its clients counted; what cannot be is left out."""

import math

import pytest

from fededge.fleet.functions.evaluation import measured

GOOD = {"examples": 10.0, "loss_sum": 5.0, "correct": 8.0}


def test_clients_count_by_their_examples() -> None:
    found = measured([GOOD, {"examples": 30.0, "loss_sum": 35.0, "correct": 12.0}])
    assert found == {"loss": 1.0, "accuracy": 0.5}


def test_numbers_have_a_coefficient_of_determination() -> None:
    counts = {"examples": 4.0, "loss_sum": 2.0, "squared_error": 2.0, "target": 4.0, "target_squared": 8.0}
    assert measured([counts]) == {"loss": 0.5, "r2": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"examples": 0.0},
        {"examples": -10.0},
        {"correct": 11.0},
        {"correct": -1.0},
        {"loss_sum": -1.0},
        {"loss_sum": math.inf},
        {"correct": math.nan},
    ],
)
def test_counts_that_cannot_be_are_left_out(change: dict[str, float]) -> None:
    assert measured([GOOD | change, GOOD]) == measured([GOOD])
    assert measured([GOOD | change]) == {}


def test_counts_that_lack_a_sum_are_left_out() -> None:
    assert measured([{}, {"examples": 1.0}, {"examples": 1.0, "loss_sum": 1.0}]) == {}
