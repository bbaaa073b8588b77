"""Cohorts: uniform, without replacement, of those that are there, recomputable."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.documents import ClientCounts, Feature, Label, Population, Schema, Selection
from fededge.errors import DataError, TaskError
from fededge.fleet.selection import Selector, select
from fededge.fleet.selection.chance import uniform
from fededge.task import Cohort

letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
ids = st.lists(st.text(letters, min_size=1, max_size=8), min_size=1, max_size=20, unique=True)
"""A client is a folder's name at least, which has no NUL."""


def population(names: list[str]) -> Population:
    return Population(
        clients=[ClientCounts(id=name, train=10, test=1) for name in names],
        example=Schema(features=[Feature(name="x", dtype="float32", shape=[2])], label=Label(classes=2)),
        examples=10 * len(names),
        simulated=True,
    )


def cohort(size: int, round_number: int, names: list[str], seed: int = 7) -> list[str]:
    return chosen(select(Cohort(size=size), seed, population(names)), round_number, names)


def chosen(selection: Selection, round_number: int, there: list[str]) -> list[str]:
    return [client.id for client in Selector(selection, lambda: there).select(round_number, [])]


@given(ids, st.data())
def test_a_cohort_is_sorted_distinct_and_of_the_population(names: list[str], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(names)))
    chosen = cohort(size, data.draw(st.integers(1, 10**6)), names)
    assert len(set(chosen)) == len(chosen) == size
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(names)


@given(ids, st.randoms(), st.data())
def test_the_order_of_the_population_does_not_matter(
    names: list[str], random: Any, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, len(names)))
    assert cohort(size, 3, names) == cohort(size, 3, random.sample(names, len(names)))


def test_only_clients_that_are_there_are_chosen() -> None:
    names = [f"c{i}" for i in range(10)]
    selection = select(Cohort(size=4), 7, population(names))
    there = ["c1", "c3", "c8", "stranger"]
    assert chosen(selection, 1, there) == ["c1", "c3", "c8"]
    assert set(chosen(selection, 1, [*there, "c0", "c9"])) <= {"c0", "c1", "c3", "c8", "c9"}
    assert chosen(selection, 1, []) == []


@given(st.integers(0, 2**31 - 1), st.integers(1, 10**9), st.text())
def test_a_random_number_lies_in_the_unit_interval(seed: int, round: int, client: str) -> None:
    try:
        client.encode()
    except UnicodeEncodeError:
        return
    assert 0 <= uniform(seed, round, client) < 1


def test_every_cohort_is_about_equally_likely() -> None:
    names = [f"site-{i}" for i in range(5)]
    counts = Counter(tuple(cohort(2, number, names)) for number in range(1, 4001))
    assert len(counts) == 10
    chi_squared = sum((count - 400) ** 2 / 400 for count in counts.values())
    assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001


def test_seed_and_round_change_the_cohort() -> None:
    names = [f"c{i}" for i in range(100)]
    first = cohort(10, 1, names)
    assert first != cohort(10, 2, names)
    assert first != cohort(10, 1, names, seed=8)


def test_another_process_selects_the_same() -> None:
    names = [f"c{i}" for i in range(50)]
    selection = select(Cohort(size=7), 7, population(names))
    code = (
        "import sys, json; from fededge.documents import Selection; from fededge.fleet.selection import Selector;"
        "s = Selection.from_bytes(sys.stdin.buffer.read());"
        "there = [c.id for c in s.pool];"
        "print(json.dumps([c.id for c in Selector(s, lambda: there).select(4, [])]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], input=selection.to_bytes(), capture_output=True, check=True
    )
    assert json.loads(answer.stdout) == cohort(7, 4, names)


def test_a_recorded_cohort_stays_the_same_for_ever() -> None:
    assert cohort(3, 1, [f"site-{i}" for i in range(10)]) == ["site-0", "site-6", "site-9"]


def test_a_cohort_larger_than_the_population_is_refused_with_both_numbers() -> None:
    with pytest.raises(TaskError, match=r"size is 3 but the population has only 2"):
        cohort(3, 1, ["a", "b"])


def test_zero_clients_are_refused() -> None:
    with pytest.raises(DataError, match="no clients"):
        cohort(1, 1, [])


def test_a_client_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        cohort(1, 1, ["a", "b", "a"])


def test_a_policy_that_is_not_known_here_is_named() -> None:
    with pytest.raises(TaskError, match="'luck'"):
        Selector(Selection(policy="luck", size=1, seed=0, pool=[]), list)
