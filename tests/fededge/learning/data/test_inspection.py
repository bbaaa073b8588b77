"""What is found in a data set, and whether the task that is suggested fits it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fededge import task as tasks
from fededge.documents import Inspection
from fededge.errors import DataError
from fededge.learning.data import checking, folders
from fededge.learning.data.inspection import Request, inspect

pytestmark = pytest.mark.environment("worker")

COUNT = 600


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A table with numbers, words, holes, a number of each row, a name of each row, and a constant."""
    rng = np.random.default_rng(0)
    age, color = rng.integers(18, 80, COUNT), rng.choice(["red", "blue", "dark green"], COUNT)
    rows = [
        f"{n},{'' if n % 40 == 0 else age[n]},{'' if n % 30 == 0 else color[n]},always,name{n},site {n % 6},"
        f"{'no' if age[n] > 45 else 'yes'}"
        for n in range(COUNT)
    ]
    file = tmp_path / "people of 2026.csv"
    file.write_text("\n".join(["id,age,color,constant,name,site,answer", *rows]))
    return file


def look(data: dict[str, Any], **more: Any) -> Inspection:
    request = Request.model_validate_json(json.dumps({"data": data} | more))
    return inspect(request.data, request.guess, request.folder)


def test_each_column_is_described_and_what_is_no_feature_left_out(people: Path) -> None:
    found = look({"source": "csv", "path": str(people)})
    columns = {column.name: column for column in found.columns}
    assert {name: column.role for name, column in columns.items()} == {
        "age": "feature",
        "color": "feature",
        "answer": "label",
        "id": "left out",
        "constant": "left out",
        "name": "left out",
        "site": "owner",
    }
    assert (columns["age"].missing, columns["color"].missing) == (15, 20)
    assert "own in nearly every row" in columns["name"].note
    assert columns["id"].note == "counts the rows"
    assert sum(bar.count for bar in columns["color"].bars) == COUNT
    assert found.owner_count == 6
    assert found.reached is not None
    assert found.chance is not None
    assert found.chance < 0.7 < found.reached


def test_duplicates_and_unbalanced_classes_and_useless_features_are_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 50, 1000)
    rows = [f"{value},{'rare' if n % 100 == 0 else 'usual'}" for n, value in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join(["x,label", *rows]))
    found = look({"source": "csv", "path": str(tmp_path / "t.csv")})
    told = " ".join(finding.text for finding in found.findings)
    assert found.duplicates > 900
    assert "are the same as one before them" in told
    assert "unbalanced: rare has 10 of 1,000" in told
    assert "the features tell next to nothing" in told


def images(folder: Path) -> dict[str, Any]:
    for name in ("a", "b"):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(40):
            level = 200 if name == "a" else 50
            Image.new("RGB", (20, 20), (level + number, 0, 0)).save(
                folder / "images" / name / f"{number}.png"
            )
    return {"source": "images", "path": str(folder / "images")}


def series(folder: Path) -> dict[str, Any]:
    x, y = np.random.default_rng(0).normal(size=(120, 20, 3)), np.arange(120) % 2
    np.savez(folder / "s.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return {"source": "npz", "path": str(folder / "s.npz")}


def sites(folder: Path) -> dict[str, Any]:
    for site in ("a", "b", "c", "d"):
        (folder / "sites" / site).mkdir(parents=True)
        rows = [f"{n},{'xy'[n % 2]},{n % 7 / 7}" for n in range(60)]
        (folder / "sites" / site / "data.csv").write_text("\n".join(["n,word,target", *rows]))
    return {"source": "folders", "path": str(folder / "sites")}


def several(folder: Path) -> dict[str, Any]:
    rows = [f"{n % 13},{n % 2},{n % 3 % 2}" for n in range(300)]
    (folder / "m.csv").write_text("\n".join(["n,first,second", *rows]))
    return {"source": "csv", "path": str(folder / "m.csv"), "label": ["first", "second"]}


def nothing_to_predict(folder: Path) -> dict[str, Any]:
    (folder / "n.csv").write_text("\n".join(["n,m", *(f"{n % 13},{n % 5 / 5}" for n in range(300))]))
    return {"source": "csv", "path": str(folder / "n.csv"), "kind": "none"}


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (lambda folder: {"source": "sklearn", "name": "diabetes"}, "mlp"),
        (lambda folder: {"source": "digits"}, "cnn"),
        (images, "resnet"),
        (series, "cnn1d"),
        (sites, "mlp"),
        (several, "mlp"),
        (nothing_to_predict, "mlp"),
    ],
)
def test_the_suggested_task_is_one_whose_data_can_be_prepared(tmp_path: Path, make: Any, model: str) -> None:
    found = look(make(tmp_path), folder=str(tmp_path))
    (tmp_path / "task.yaml").write_text(found.task)
    task = tasks.load(tmp_path / "task.yaml")
    assert task.model.name == model
    assert checking.check(task).findings
    population = folders.prepare(task.local_data, task.partition, task.seed, tmp_path / "c", tmp_path / "t")
    assert population.example.shape == found.example.shape
    assert len(population.clients) >= task.learning.cohort.size


def test_the_suggested_task_names_columns_with_their_rules(people: Path, tmp_path: Path) -> None:
    found = look({"source": "csv", "path": str(people), "label": "answer"}, folder=str(tmp_path))
    (tmp_path / "task.yaml").write_text(found.task)
    assert '"people of 2026.csv"' in found.task
    task = tasks.load(tmp_path / "task.yaml")
    assert task.name == "people-of-2026"
    assert task.partition.kind == "natural"
    population = folders.prepare(task.local_data, task.partition, task.seed, tmp_path / "c", tmp_path / "t")
    age, color = population.example.features
    assert age.missing == pytest.approx(age.mean)
    assert color.categories == ["blue", "dark green", "red", "missing"]
    assert population.example.label.names == ["no", "yes"]


def test_a_column_without_a_name_and_words_of_any_letters_are_no_obstacle(tmp_path: Path) -> None:
    rows = [
        f'{n},{n % 5},"{("two" + chr(10) + "lines", "a: {b}", "no", "")[n % 4]}",{("1", "null")[n % 2]}'
        for n in range(99)
    ]
    (tmp_path / "t.csv").write_text("\n".join([",n,word,label", *rows]))
    data = {"source": "csv", "path": str(tmp_path / "t.csv"), "label": "n"}
    (tmp_path / "task.yaml").write_text(look(data).task)
    task = tasks.load(tmp_path / "task.yaml")
    assert checking.check(task).findings


def test_data_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match="row 3 has 3 columns"):
        look({"source": "csv", "path": str(tmp_path / "t.csv")})
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match="no column 'c'"):
        look({"source": "csv", "path": str(tmp_path / "t.csv"), "label": "c"})


def test_numbers_of_many_magnitudes_and_codes_get_rules_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wealth, hours, rooms = np.exp(rng.normal(8, 2, 3000)), rng.normal(40, 5, 3000), rng.poisson(3, 3000)
    rows = [f"{wealth[n]:.2f},{hours[n]:.2f},{n % 7},{rooms[n]},{rng.random():.3f}" for n in range(3000)]
    (tmp_path / "t.csv").write_text("\n".join(["wealth,hours,weekday,rooms,target", *rows]))
    found = look({"source": "csv", "path": str(tmp_path / "t.csv")}, folder=str(tmp_path))
    (tmp_path / "task.yaml").write_text(found.task)
    rules = {column.name: column for column in tasks.load(tmp_path / "task.yaml").data.features}  # type: ignore[union-attr]
    assert rules["weekday"].categories == [str(day) for day in range(7)]
    assert rules["rooms"].categories == []
    assert rules["hours"].log is None
    assert rules["wealth"].log == pytest.approx(np.quantile(wealth, 0.05), rel=0.2)
