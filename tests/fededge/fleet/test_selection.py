"""Cohorts: uniform, without replacement, recomputable."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.errors import DataError, TaskError
from fededge.fleet.selection import Candidate, Draw, cohort, read_population, schedule
from fededge.task import FederatedTask

ids = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=20, unique=True)


def task_for(size: int, seed: int = 7, rounds: int = 12) -> FederatedTask:
    partition = {"clients": max(size, 3)}
    learning = {"cohort": {"size": size}, "rounds": rounds}
    content = {"name": "t", "seed": seed, "data": {"source": "digits"}}
    return FederatedTask.from_json(json.dumps({**content, "partition": partition, "learning": learning}))


def people(names: list[str]) -> list[Candidate]:
    return [Candidate(id=name, train=10) for name in names]


@given(ids, st.data())
def test_a_cohort_is_sorted_distinct_and_of_the_population(names: list[str], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(names)))
    chosen = cohort(task_for(size), data.draw(st.integers(1, 10**6)), people(names))
    assert len(set(chosen)) == len(chosen) == size
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(names)


@given(ids, st.randoms(), st.data())
def test_the_order_of_the_population_does_not_matter(names: list[str], random, data: st.DataObject) -> None:
    task = task_for(data.draw(st.integers(1, len(names))))
    shuffled = random.sample(names, len(names))
    assert cohort(task, 3, people(names)) == cohort(task, 3, people(shuffled))


@given(st.integers(0, 2**31 - 1), st.integers(1, 10**9), st.text())
def test_a_draw_lies_in_the_unit_interval(seed: int, round: int, client: str) -> None:
    try:
        client.encode()
    except UnicodeEncodeError:
        return
    assert 0 <= Draw(seed, round).uniform(client) < 1


def test_every_cohort_is_about_equally_likely() -> None:
    names = [f"site-{i}" for i in range(5)]
    task, population = task_for(2), people(names)
    counts = Counter(tuple(cohort(task, number, population)) for number in range(1, 4001))
    assert len(counts) == 10
    chi_squared = sum((count - 400) ** 2 / 400 for count in counts.values())
    assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001


def test_seed_and_round_change_the_cohort() -> None:
    names = people([f"c{i}" for i in range(100)])
    first = cohort(task_for(10), 1, names)
    assert first != cohort(task_for(10), 2, names)
    assert first != cohort(task_for(10, seed=8), 1, names)


def test_another_process_selects_the_same() -> None:
    names = [f"c{i}" for i in range(50)]
    code = (
        "import sys, json; from fededge.fleet.selection import *; task, names = json.load(sys.stdin);"
        "print(json.dumps(cohort(FederatedTask.from_json(task), 4,"
        " [Candidate(id=n, train=1) for n in names])))"
    )
    given = json.dumps([task_for(7).to_json(), names])
    answer = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == cohort(task_for(7), 4, people(names))


def test_a_recorded_cohort_stays_the_same_for_ever() -> None:
    names = people([f"site-{i}" for i in range(10)])
    assert cohort(task_for(3), 1, names) == ["site-0", "site-6", "site-9"]


def test_a_schedule_covers_the_next_rounds_and_ends_with_the_task() -> None:
    names = people(["a", "b", "c", "d"])
    task = task_for(2, rounds=12)
    assert list(schedule(task, 0, 5, names)) == ["1", "2", "3", "4", "5"]
    assert list(schedule(task, 10, 5, names)) == ["11", "12"]
    assert schedule(task, 12, 5, names) == {}
    assert schedule(task, 8, 4, names)["11"] == schedule(task, 10, 5, names)["11"]


def test_a_cohort_larger_than_the_population_is_refused_with_both_numbers() -> None:
    with pytest.raises(TaskError, match=r"size is 3 but the population has only 2"):
        cohort(task_for(3), 1, people(["a", "b"]))


def test_zero_clients_are_refused() -> None:
    with pytest.raises(DataError, match="no clients"):
        cohort(task_for(1), 1, [])


def test_a_client_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        cohort(task_for(1), 1, people(["a", "b", "a"]))


def test_the_population_is_read_from_the_data_artifact(tmp_path: Path) -> None:
    clients = [{"id": "site-0", "train": 431, "test": 48, "labels": [1, 2]}]
    (tmp_path / "population.json").write_text(json.dumps({"clients": clients, "shape": [28, 28, 1]}))
    assert read_population(tmp_path) == [Candidate(id="site-0", train=431)]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"clients": [{"id": ""}]}', '{"clients": [{"id": "a", "train": -1}]}']
)
def test_a_malformed_population_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "population.json").write_text(text)
    with pytest.raises(DataError, match=r"population\.json"):
        read_population(tmp_path)


def test_a_missing_population_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"population\.json: No such file"):
        read_population(tmp_path)
