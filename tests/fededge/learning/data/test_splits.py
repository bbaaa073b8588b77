"""What is held out: seeded, recorded, and no example in two parts."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.errors import DataError, TaskError
from fededge.task import parse

pytestmark = pytest.mark.environment("worker")

COUNT = 400


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Rows that each have a number of their own, an owner and a time."""
    rng = np.random.default_rng(0)
    rows = [f"{number},s{rng.integers(0, 20)},{rng.integers(0, 100)},{number % 3}" for number in range(COUNT)]
    (tmp_path / "t.csv").write_text("\n".join(["number,site,hour,label", *rows]))
    return {
        "source": "csv",
        "path": str(tmp_path / "t.csv"),
        "label": "label",
        "time": "hour",
        "owner": "site",
    }


def numbers(done: Any) -> dict[Path, set[int]]:
    """Which rows lie in each folder."""
    return {folder: set(done.read(folder)[0][:, 0].astype(int).tolist()) for folder in done.folders()}


@pytest.mark.parametrize("by", ["example", "client", "owner", "time"])
@pytest.mark.parametrize("kind", ["iid", "dirichlet", "natural", "shards", "quantity", "time"])
def test_no_example_is_in_two_parts_and_none_is_lost(
    prepare: Any, table: dict[str, Any], by: str, kind: str
) -> None:
    split = {"by": by, "test": 0.2, "validation": 0.1}
    how = {"kind": kind, "clients": 12, "min_examples": 2, "alpha": 5.0}
    done = prepare({**table, "split": split}, partition=how)
    parts = numbers(done)
    assert not any(one & other for one, other in combinations(parts.values(), 2))
    assert set().union(*parts.values()) == set(range(COUNT))
    held = done.population.held_out
    assert held is not None
    assert (held.by, held.seed) == (by, 0)
    assert held.test == len(parts[done.test]) > 0
    assert held.validation == len(parts[done.test / "validation"]) > 0
    again = prepare({**table, "split": split}, partition=how)
    assert numbers(again) == parts


@pytest.mark.parametrize(("by", "column"), [("owner", "site"), ("time", "hour")])
def test_owners_and_times_are_held_out_whole(
    prepare: Any, table: dict[str, Any], tmp_path: Path, by: str, column: str
) -> None:
    done = prepare({**table, "split": {"by": by}}, partition={"kind": "iid"})
    rows = [line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines()[1:]]
    of_row = {int(row[0]): int(row[1][1:] if column == "site" else row[2]) for row in rows}
    parts = numbers(done)
    held = {of_row[row] for row in parts.pop(done.test)}
    learned = {of_row[row] for part in parts.values() for row in part}
    assert not held & learned
    assert by == "owner" or min(held) > max(learned)


def test_clients_are_held_out_whole_and_named(prepare: Any, table: dict[str, Any]) -> None:
    done = prepare(
        {**table, "split": {"by": "client", "test": 0.3}}, partition={"kind": "iid", "clients": 10}
    )
    assert len(done.population.held_out.clients) == 3
    assert {client.id for client in done.population.clients}.isdisjoint(done.population.held_out.clients)
    assert len(done.population.clients) == 7


def test_another_seed_holds_out_others(prepare: Any, table: dict[str, Any]) -> None:
    first, second = (
        numbers(done := prepare(table, seed=seed, partition={"kind": "iid"}))[done.test] for seed in (0, 1)
    )
    assert first != second


def test_a_source_s_own_test_set_stays_unless_the_task_splits(prepare: Any, tmp_path: Path) -> None:
    x, y = np.arange(300.0)[:, None], np.arange(300) % 2
    np.savez(tmp_path / "d.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    data = {"source": "npz", "path": str(tmp_path / "d.npz")}
    own = prepare(data, partition={"kind": "iid"})
    assert numbers(own)[own.test] == set(range(200, 300))
    assert own.population.held_out.by == "source"
    anew = prepare({**data, "split": {"test": 0.1}}, partition={"kind": "iid"})
    assert len(numbers(anew)[anew.test]) == 30


def test_splits_that_leave_nothing_are_named(prepare: Any, table: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="leaves none to learn"):
        prepare({**table, "split": {"by": "client", "test": 0.9}}, partition={"kind": "iid", "clients": 2})
    with pytest.raises(DataError, match="leaves none of 20 owners"):
        prepare({**table, "split": {"by": "owner", "test": 0.99}}, partition={"kind": "iid"})
    with pytest.raises(TaskError, match="leave nothing to train on"):
        parse("name: t\ndata: {source: digits, split: {test: 0.6, validation: 0.5}}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {source: digits}\npartition: {kind: natural}", "natural needs an owner"),
        ("data: {source: digits}\npartition: {kind: column, column: a}", "column needs a table"),
        ("data: {source: digits}\npartition: {kind: column}", "go together"),
        ("data: {source: digits, split: {by: owner}}", "split.by owner needs the owner"),
        ("data: {source: digits}\npartition: {kind: time}", "need data.time"),
        ("data: {source: folders, path: a}\npartition: {kind: iid}", "each folder is a client"),
    ],
)
def test_what_the_source_cannot_tell_is_named_with_the_task(text: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        parse(f"name: t\n{text}\n")
