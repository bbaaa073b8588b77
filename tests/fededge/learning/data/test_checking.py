"""What is found in a task's data before the first step runs."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import task as tasks
from fededge.errors import DataError, FedEdgeError
from fededge.learning.data import checking, folders
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("worker")

Make = Callable[..., FederatedTask]
GOOD: dict[str, Any] = {
    "x_train": np.zeros((120, 28, 28), np.uint8),
    "y_train": np.arange(120) % 10,
    "x_test": np.zeros((10, 28, 28), np.uint8),
    "y_test": np.arange(10),
    "owner": np.repeat(["ann", "bob", "cem"], 40),
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A task over an .npz file with these arrays, and with sections changed."""

    def made(arrays: dict[str, Any] | bytes, **sections: Any) -> FederatedTask:
        path = tmp_path / "data.npz"
        if isinstance(arrays, bytes):
            path.write_bytes(arrays)
        else:
            np.savez(path, **(GOOD | arrays))
        content = {
            "name": "t",
            "data": {"source": "npz", "path": str(path), "key": "owner"},
            "partition": {"kind": "iid"},
        }
        return tasks.parse(json.dumps(content | sections))

    return made


def test_good_data_give_a_finding_for_each_thing_checked(make: Make) -> None:
    findings = {each.checked: each.found for each in checking.check(make({})).findings}
    assert findings["data.source npz"] == "120 training and 10 test examples"
    assert findings["partition.kind iid"] == "3 clients with 40 to 40 examples"
    assert findings["labels"] == "class, 10 classes"
    assert findings["features"] == "image: uint8 [28, 28, 1] an example"
    assert findings["data.split"] == "10 test examples, by source"
    assert {"learning.cohort.size 3", "variant int8"} <= set(findings)


@pytest.mark.parametrize(
    "data",
    ["source: keras-mnist", "source: keras, name: cifar10", "source: huggingface, name: a, feature: x"],
)
def test_downloads_are_left_to_the_step(data: str) -> None:
    (finding,) = checking.check(tasks.parse(f"name: t\ndata: {{{data}}}\n")).findings
    assert "step" in finding.found


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": np.full((120, 5), np.nan), "x_test": np.zeros((10, 5))}, "NaN"),
        ({"x_train": np.zeros((120, 7, 28))}, "shape"),
        ({"y_train": np.arange(120) * 2}, "class 11 has no example"),
        ({"y_train": np.full(120, 2**63 + 5, np.uint64)}, f"label {2**63 + 5}"),
        ({"y_train": np.full(120, -1)}, "whole numbers from 0"),
        ({"y_train": np.zeros(119, int)}, "labels"),
        ({"x_test": np.zeros((0, 28, 28), np.uint8), "y_test": np.zeros(0, int)}, "0 test examples"),
        ({"owner": np.array([b"\xff"] * 120)}, "npz"),
        ({"x_train": np.array([{}] * 120)}, "pickled"),
        (b"PK\x03\x04 and no more", "npz"),
        (b"", "npz"),
    ],
)
def test_malformed_data_are_named(make: Make, arrays: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        checking.check(make(arrays))


def test_missing_data_and_missing_arrays_are_named(make: Make, tmp_path: Path) -> None:
    task = make({})
    np.savez(tmp_path / "data.npz", x_train=GOOD["x_train"])
    with pytest.raises(DataError, match="lacks y_train, x_test"):
        checking.check(task)
    (tmp_path / "data.npz").unlink()
    with pytest.raises(FedEdgeError, match=r"data\.npz"):
        checking.check(task)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"partition": {"kind": "iid", "clients": 13}}, "13 clients .* 120 training examples"),
        ({"partition": {"kind": "iid", "clients": 1_000_000}}, "use fewer clients"),
        ({"partition": {"alpha": 1e-6, "min_examples": 40}}, "client site-. would get"),
        (
            {"partition": {"kind": "natural"}, "learning": {"cohort": {"size": 4}}},
            "cohort.size is 4 .* only 3 clients",
        ),
        (
            {"privacy": {"min_examples": 37}},
            "at least 3 clients .* 37 training examples .* only 0 of 3",
        ),
        ({"partition": {"kind": "natural"}, "privacy": {"min_clients": 4}}, "only 3 of 3"),
    ],
)
def test_data_that_cannot_give_what_the_task_asks_are_named(
    make: Make, sections: dict[str, Any], words: str
) -> None:
    with pytest.raises(FedEdgeError, match=words):
        checking.check(make({}, **sections))


def test_the_floor_of_calibration_is_judged_by_what_clients_will_train_on(make: Make, tmp_path: Path) -> None:
    task = make({}, privacy={"min_examples": 36})
    checking.check(task)
    population = folders.prepare(
        task.local_data, task.partition, task.seed, tmp_path / "clients", tmp_path / "test"
    )
    assert {client.train for client in population.clients} == {36}


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"name": "mlp"}, "yes, as far as the model's operations tell"),
        ({"factory": "tests.litert_models:build", "arguments": {"name": "noise"}}, "no: layer noise draws"),
        ({"framework": "sklearn", "name": "SGDClassifier", "loss": "log_loss"}, "no: it is no Keras model"),
    ],
)
def test_a_fleets_task_is_told_whether_devices_train_on_litert(model: dict[str, Any], found: str) -> None:
    data = {"source": "fleet", "dataset": "numerals", "held_out": {"source": "sklearn", "name": "iris"}}
    task = tasks.parse(json.dumps({"name": "t", "data": data, "model": model}))
    findings = {each.checked: each.found for each in checking.check(task).findings}
    assert findings["training on LiteRT alone"].startswith(found)


def test_without_int8_a_small_population_will_do(make: Make) -> None:
    checking.check(
        make({}, variants=[{"kind": "float32"}], partition={"clients": 1}, learning={"cohort": {"size": 1}})
    )


def test_the_program_reports_errors_by_their_names(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    for task, error in ((make({}).to_json(), None), ("{", "TaskError")):
        monkeypatch.setattr("sys.stdin", io.StringIO(task))
        with pytest.raises(SystemExit) as ended:
            checking.main()
        report = checking.Report.model_validate_json(capsys.readouterr().out)
        assert report.error == error
        assert ended.value.code == (2 if error else 0)
        assert re.fullmatch(".*", report.message)
