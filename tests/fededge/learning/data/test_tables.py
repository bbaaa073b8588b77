"""CSV and Parquet files: columns become features by declared rules, and what cannot be is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from fededge.encoding import encode
from fededge.errors import DataError, FedEdgeError

pytestmark = pytest.mark.environment("worker")

NULLS = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
IID = {"kind": "iid", "clients": 2, "min_examples": 2}
ROWS = [
    "age,color,smoker,when,site,income",
    *(
        f"{20 + i % 40},{'red' if i % 3 else 'blue'},{'true' if i % 2 else 'false'},2026-01-{1 + i % 28:02d},s{i % 4},"
        f"{'high' if i % 5 else 'low'}"
        for i in range(120)
    ),
]


def changed(row: int, text: str) -> list[str]:
    return [*ROWS[:row], text, *ROWS[row + 1 :]]


@pytest.fixture(params=["csv", "parquet"])
def table(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """The section `data` of a file with these rows, in both formats."""

    def written(rows: list[str] = ROWS, **said: Any) -> dict[str, Any]:
        file = tmp_path / f"t.{request.param}"
        (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
        if request.param == "parquet":
            pyarrow.parquet.write_table(pyarrow.csv.read_csv(tmp_path / "t.csv", convert_options=NULLS), file)
        return {"source": request.param, "path": str(file), "label": "income"} | said

    return written


def csv(folder: Path, text: str | bytes, **said: Any) -> dict[str, Any]:
    (folder / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return {"source": "csv", "path": str(folder / "t.csv"), "label": "income"} | said


def test_numbers_stay_words_become_categories_and_times_days(prepare: Any, table: Any) -> None:
    found = prepare(table(owner="site"), partition={"kind": "natural"}).population
    kinds = {each.name: (each.dtype, each.categories, each.unit) for each in found.example.features}
    assert kinds == {
        "age": ("float32", [], ""),
        "color": ("int64", ["blue", "red"], ""),
        "smoker": ("bool", [], ""),
        "when": ("float32", [], "days"),
    }
    assert found.example.label.names == ["high", "low"]
    assert [client.id for client in found.clients] == ["s0", "s1", "s2", "s3"]


def test_every_row_arrives_once_as_it_was(prepare: Any, table: Any) -> None:
    done = prepare(table(features=[{"name": "age", "unit": "y"}], label="when"), partition=IID)
    rows = np.concatenate([np.column_stack(done.read(folder)) for folder in done.folders()])
    days = np.datetime64("2026-01-01", "D").astype(int)
    wanted = [(20 + i % 40, (days + i % 28) * 86400) for i in range(120)]
    assert sorted(rows[:, 0]) == sorted(age for age, _ in wanted)
    assert np.allclose(sorted(rows[:, 1]), sorted(day for _, day in wanted))
    assert done.population.example.label.kind == "number"


def test_the_task_says_which_columns_in_which_words(prepare: Any, table: Any) -> None:
    said = {
        "features": [{"name": "color", "categories": ["red", "blue"]}, {"name": "age"}],
        "classes": ["low", "high"],
    }
    example = prepare(table(**said), partition=IID).population.example
    assert [each.name for each in example.features] == ["color", "age"]
    assert example.features[0].categories == ["red", "blue"]
    assert example.label.names == ["low", "high"]


def test_missing_values_follow_their_rules_and_are_refused_without(prepare: Any, table: Any) -> None:
    rows = changed(5, ",,true,2026-01-01,s0,high")
    with pytest.raises(DataError, match=r"column .age. is empty in 1 rows: say data\.missing: fill"):
        prepare(table(rows), partition=IID)
    filled = prepare(table(rows, missing="fill"), partition=IID)
    age, color = filled.population.example.features[:2]
    assert age.missing == pytest.approx(age.mean)
    assert color.categories[int(color.missing)] == "missing"
    values = np.concatenate([filled.read(folder)[0] for folder in filled.folders()])
    assert np.isclose(values[:, 0], age.missing).any()
    said = [{"name": "age", "missing": -1}, {"name": "color", "missing": "red"}]
    age, color = prepare(table(rows, features=said), partition=IID).population.example.features
    assert (age.missing, color.categories[int(color.missing)]) == (-1, "red")


@pytest.mark.parametrize(
    ("said", "kind", "shape"),
    [
        ({"label": ["age", "when"]}, "number", (2,)),
        ({"label": "smoker"}, "class", ()),
        ({"label": "age"}, "number", ()),
        ({"label": None}, "none", ()),
        ({"label": "age", "kind": "number", "features": [{"name": "when"}]}, "number", ()),
    ],
)
def test_labels_of_each_kind(prepare: Any, table: Any, said: Any, kind: str, shape: Any) -> None:
    label = prepare(table(**said), partition=IID).population.example.label
    assert (label.kind, label.stored_shape) == (kind, shape)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"label": "wage"}, "no column 'wage'; it has age, color"),
        ({"features": [{"name": "hight"}]}, "no column 'hight'"),
        ({"classes": ["low", "middle"]}, "label 'high' is none of the 2 classes"),
        ({"classes": ["low", "high", "middle"]}, "class middle has no example anywhere"),
        (
            {"features": [{"name": "color", "categories": ["red"]}]},
            "'blue', which is none of its 1 categories",
        ),
        ({"features": [{"name": "age", "missing": "old"}]}, "holds numbers"),
        ({"kind": "number"}, "labels are words"),
        ({"time": "color"}, "holds words where a time"),
    ],
)
def test_what_the_data_do_not_hold_is_named(prepare: Any, table: Any, said: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        prepare(table(**said), partition=IID)


MANY = [f"{i % 50},red,true,2026-01-01,s0,{'high' if i % 5 else 'low'}" for i in range(60_000)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "\n".join([*ROWS, *MANY, "old,red,true,2026-01-01,s0,high"]),
            "column 'age' changes its type in the middle",
        ),
        (
            "\n".join([*ROWS, *MANY, "1,red,true,today,s0,high"]),
            "column 'when' changes its type in the middle",
        ),
        ("\n".join([*ROWS, "1;red;true;2026-01-01;s0;high"]), "row 122 has 1 columns where 6 are expected"),
        (
            "\n".join([*ROWS, *MANY]).encode() + "\n1,grün,true,2026-01-01,s0,high".encode("latin-1"),
            "utf-8 throughout",
        ),
        ("\n".join(ROWS).replace("blue", "grün").encode("latin-1"), "UTF-8"),
        ("\n".join([*ROWS, "inf,red,true,2026-01-01,s0,high"]), "infinite, the first in age"),
        ("\n".join([*ROWS, "1e300,red,true,2026-01-01,s0,high"]), "infinite, the first in age"),
        ("\n".join([*ROWS, "1,red,true,2026-01-01,s0,"]), "label 'income' is empty in 1 rows"),
        ("\n".join(ROWS).replace("color", "age"), "names column 'age' twice"),
        ("\n".join(ROWS).replace("age,", ",", 1), "column 1 has no name"),
        ("\n".join(ROWS).replace("color", "c" * 300, 1), "column 2 has no name"),
        ("age,income\n" + "\n".join(f"{'x' * 1500},{i % 2}" for i in range(50)), "more than 1,000 letters"),
        ("", "is empty"),
        ("income\nhigh\nlow\n", "no column to learn from"),
        ("age,income\n", "there are no examples"),
        ("age,income\n" + "\n".join(f"{i},w{i}" for i in range(20_000)), "different labels"),
        (
            "age,income\n" + "\n".join(f"n{i},{i % 2}" for i in range(2_000)),
            "more than 1,000 different words",
        ),
    ],
)
def test_a_csv_file_that_is_none_is_named_and_nothing_is_left(
    prepare: Any, tmp_path: Path, text: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        prepare(csv(tmp_path, text), partition=IID)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen_in_the_header_line(prepare: Any, tmp_path: Path, delimiter: str) -> None:
    text = "\n".join(ROWS).replace(",", delimiter)
    assert len(prepare(csv(tmp_path, text), partition=IID).population.example.features) == 5


def test_another_encoding_is_read_where_it_is_named(prepare: Any, tmp_path: Path) -> None:
    text = "\n".join(ROWS).replace("blue", "grün").encode("latin-1")
    color = prepare(csv(tmp_path, text, encoding="latin-1"), partition=IID).population.example.features[1]
    assert color.categories == ["grün", "red"]
    for unknown in ("klingon", "hex"):
        with pytest.raises(DataError, match="none that Python knows"):
            prepare(csv(tmp_path, text, encoding=unknown), partition=IID)


def test_whole_numbers_that_turn_out_to_be_fractions_are_numbers(prepare: Any, tmp_path: Path) -> None:
    rows = [*ROWS, *MANY, "1.5,red,true,2026-01-01,s0,high"]
    assert (
        prepare(csv(tmp_path, "\n".join(rows)), partition=IID).population.example.features[0].dtype
        == "float32"
    )


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_a_parquet_file_that_is_none_is_named(prepare: Any, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"age": range(100), "income": [i % 2 for i in range(100)]}), file
    )
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-20] if damage == "cut" else b"a,b\n1,2\n")
    with pytest.raises(FedEdgeError, match=r"t\.parquet"):
        prepare({"source": "parquet", "path": str(file), "label": "income"}, partition=IID)


def test_lists_in_parquet_are_no_features(prepare: Any, tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"a": [[1, 2]] * 40, "income": [i % 2 for i in range(40)]}), file
    )
    with pytest.raises(DataError, match="column 'a' holds list"):
        prepare({"source": "parquet", "path": str(file), "label": "income"}, partition=IID)


def test_whole_numbers_with_categories_are_codes_in_both_formats(prepare: Any, table: Any) -> None:
    rows = ["floor,level,income", *(f"{n % 4},{n % 3},{'high' if n % 5 else 'low'}" for n in range(120))]
    floors = {"name": "floor", "categories": ["3", "2", "1", "0"]}
    done = prepare(table(rows, features=[floors, {"name": "level", "kind": "category"}]), partition=IID)
    assert [each.categories for each in done.population.example.features] == [
        ["3", "2", "1", "0"],
        ["0", "1", "2"],
    ]
    with pytest.raises(DataError, match="'3', which is none of its 3 categories"):
        prepare(table(rows, features=[{"name": "floor", "categories": ["0", "1", "2"]}]), partition=IID)


def test_logarithms_are_standardized_and_their_mean_stands_for_nothing(prepare: Any, table: Any) -> None:
    sizes = [*(10.0 ** (n % 7) * (-1) ** n for n in range(119)), None]
    rows = ["size,income", *(f"{'' if x is None else x},{n % 2}" for n, x in enumerate(sizes))]
    done = prepare(table(rows, features=[{"name": "size", "log": 10, "missing": "mean"}]), partition=IID)
    feature = done.population.example.features[0]
    train = [done.read(done.clients / client.id / "train")[0] for client in done.population.clients]
    seen = encode(done.population.example, np.concatenate(train))
    assert abs(seen.mean()) < 0.05
    assert seen.std() == pytest.approx(1, abs=0.05)
    assert encode(done.population.example, np.array([[feature.missing]], np.float32)) == pytest.approx(
        0, abs=1e-5
    )
