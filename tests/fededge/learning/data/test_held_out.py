"""Examples by which the task of a fleet judges: all of them are held out, and their statistics are the task's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples
from fededge import task as tasks
from fededge.errors import DataError, TaskError
from fededge.learning.data import checking, folders, spreading
from fededge.learning.frameworks import model_spec, open_client
from fededge.task import ClientOptimizer, FederatedTask, Model

pytestmark = pytest.mark.environment("worker")


def rooms(folder: Path, name: str, shift: float, count: int = 60) -> dict[str, Any]:
    """A table of rooms that are warm above a temperature of their own."""
    rows = [f"{i % 30 + shift},{i % 7},{'yes' if i % 30 > 15 else 'no'}" for i in range(count)]
    (folder / name).write_text("celsius,hours,warm\n" + "\n".join(rows) + "\n")
    return {"source": "csv", "path": str(folder / name), "label": "warm"}


def fleet(held_out: dict[str, Any]) -> FederatedTask:
    data = {"source": "fleet", "dataset": "rooms", "held_out": held_out}
    return tasks.parse(json.dumps({"name": "t", "data": data, "model": {"name": "mlp"}}))


def test_all_examples_are_held_out_and_standardized_by_their_own_statistics(tmp_path: Path) -> None:
    task = fleet(rooms(tmp_path, "held-out.csv", 10.0))
    schema, held_out = folders.prepare_held_out(task.local_data, 0, tmp_path / "test")
    x, y = examples.read(tmp_path / "test", schema)
    assert (len(x), held_out.test, held_out.by) == (60, 60, "source")
    celsius = schema.features[0]
    assert celsius.mean == pytest.approx(x[:, 0].mean())
    assert celsius.std == pytest.approx(x[:, 0].std())
    assert set(np.unique(y)) == {0, 1}
    assert [path.name for path in (tmp_path / "test").iterdir() if path.is_dir()] == []


def test_the_test_set_that_a_source_has_judges_too(tmp_path: Path) -> None:
    x, y = np.zeros((30, 4)), np.arange(30) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:10] + 1, y_test=y[:10])
    task = fleet({"source": "npz", "path": str(tmp_path / "a.npz")})
    assert folders.prepare_held_out(task.local_data, 0, tmp_path / "test")[1].test == 40


def test_nothing_is_left_of_examples_that_are_malformed(tmp_path: Path) -> None:
    task = fleet(rooms(tmp_path, "held-out.csv", 10.0))
    (tmp_path / "held-out.csv").write_text("celsius,hours,warm\nnan,1,yes\n2,3,no\n")
    with pytest.raises(DataError):
        folders.prepare_held_out(task.local_data, 0, tmp_path / "test")
    assert not (tmp_path / "test").exists()


def test_a_client_with_statistics_of_its_own_learns_by_those_of_the_task(tmp_path: Path) -> None:
    task = fleet(rooms(tmp_path, "held-out.csv", 0.0))
    schema, _ = folders.prepare_held_out(task.local_data, 0, tmp_path / "test")
    site = tasks.parse(
        json.dumps(
            {
                "name": "site",
                "data": rooms(tmp_path, "site.csv", 100.0, 200),
                "partition": {"kind": "iid", "clients": 1},
                "learning": {"cohort": {"size": 1}},
                "variants": [{"kind": "float32"}],
            }
        )
    )
    own = folders.prepare(site.local_data, site.partition, 0, tmp_path / "clients", tmp_path / "kept").example
    assert own.features[0].mean != schema.features[0].mean
    assert own.form_digest == schema.form_digest
    spec = model_spec(Model(framework="sklearn", name="SGDClassifier", loss="log_loss"), schema, 0)
    spec.export_plan(ClientOptimizer(), task.identity, tmp_path / "plan")
    data = tmp_path / "clients" / "site-0"
    update = open_client(tmp_path / "plan", data).train(spec.initial_weights(), 5)
    assert update.examples > 100
    schema.write(data / "train" / "schema.json")
    same = open_client(tmp_path / "plan", data).train(spec.initial_weights(), 5)
    assert all(np.array_equal(update.delta[name], value) for name, value in same.delta.items())
    renamed = own.model_copy(update={"features": [own.features[1], own.features[0]]})
    renamed.write(data / "train" / "schema.json")
    with pytest.raises(DataError, match="its feature hours is not the others' celsius"):
        open_client(tmp_path / "plan", data)


def test_the_check_of_a_fleets_task_looks_at_the_held_out_examples(tmp_path: Path) -> None:
    task = fleet(rooms(tmp_path, "held-out.csv", 10.0))
    report = checking.check(task)
    found = {each.checked: each.found for each in report.findings}
    assert found["data.held_out.source csv"] == "60 held-out examples"
    assert found["labels"] == "class, 2 classes"
    assert report.form == folders.prepare_held_out(task.local_data, 0, tmp_path / "test")[0].form_digest
    assert not [name for name in found if name.startswith("partition")]


def test_examples_that_lie_at_clients_are_not_spread(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="its examples lie at clients already"):
        spreading.spread(fleet({"source": "digits"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
