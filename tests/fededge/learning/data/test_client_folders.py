"""Folders of clients that exist already, each prepared by nobody else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

from fededge import examples
from fededge.documents import Feature, Label, Schema
from fededge.errors import DataError, FedEdgeError

pytestmark = pytest.mark.environment("worker")

SITES = ("berlin", "rome", "tokyo")
SCHEMA = Schema(
    features=[Feature(name="series", dtype="float32", shape=[12, 2])],
    label=Label(classes=3, names=["a", "b", "c"]),
)


@pytest.fixture(params=["npy", "csv", "parquet"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Three sites with 60 examples each."""
    rng = np.random.default_rng(0)
    for number, site in enumerate(SITES):
        folder = tmp_path / "sites" / site
        folder.mkdir(parents=True)
        if request.param == "npy":
            examples.write(folder, rng.normal(size=(60, 12, 2)), np.arange(60) % 3, SCHEMA)
            continue
        rows = [f"{number + i},{('red', 'blue')[i % 2]},{'abc'[i % 3]}" for i in range(60)]
        (folder / "data.csv").write_text("\n".join(["heat,color,label", *rows]))
        if request.param == "parquet":
            pyarrow.parquet.write_table(pyarrow.csv.read_csv(folder / "data.csv"), folder / "data.parquet")
            (folder / "data.csv").unlink()
    return tmp_path / "sites"


def data(root: Path, **said: Any) -> dict[str, Any]:
    return {"source": "folders", "path": str(root)} | ({} if npy(root) else {"label": "label"}) | said


def npy(root: Path) -> bool:
    return (root / "rome" / "x.npy").exists()


def spoil(root: Path) -> None:
    """Give rome other features than the others have."""
    folder = root / "rome"
    if npy(root):
        other = SCHEMA.model_copy(
            update={"features": [Feature(name="speed", dtype="float32", shape=[12, 2])]}
        )
        other.write(folder / "schema.json")
    elif (folder / "data.csv").exists():
        (folder / "data.csv").write_text((folder / "data.csv").read_text().replace("heat", "speed"))
    else:
        table = pyarrow.parquet.read_table(folder / "data.parquet").rename_columns(
            ["speed", "color", "label"]
        )
        pyarrow.parquet.write_table(table, folder / "data.parquet")


def test_each_folder_is_a_client_with_its_own_examples(prepare: Any, root: Path) -> None:
    done = prepare(data(root))
    assert [client.id for client in done.population.clients] == sorted(SITES)
    assert done.population.example.label.names == ["a", "b", "c"]
    assert sum(len(done.read(folder)[0]) for folder in done.folders()) == 180


def test_whole_clients_can_be_held_out(prepare: Any, root: Path) -> None:
    done = prepare(data(root, split={"by": "client", "test": 0.3}))
    assert len(done.population.clients) == 2
    assert done.population.held_out.test == 60


def test_a_client_whose_schema_differs_is_named(prepare: Any, root: Path, tmp_path: Path) -> None:
    spoil(root)
    with pytest.raises(DataError, match=r"rome.*(speed|'heat')"):
        prepare(data(root))
    assert not (tmp_path / "out").exists()


def test_links_out_of_a_client_s_folder_are_refused(prepare: Any, root: Path, tmp_path: Path) -> None:
    name = next(file.name for file in (root / "rome").iterdir())
    (root / "rome" / name).rename(tmp_path / name)
    (root / "rome" / name).symlink_to(tmp_path / name)
    with pytest.raises(DataError, match="leads out of"):
        prepare(data(root))
    (root / "rome" / name).unlink()
    (root / "rome" / name).symlink_to(root / "tokyo" / name)
    with pytest.raises(DataError, match="leads out of"):
        prepare(data(root))
    (tmp_path / "elsewhere").mkdir()
    (root / "oslo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="leads out of"):
        prepare(data(root))


def test_a_client_without_data_or_with_two_kinds_is_named(prepare: Any, root: Path) -> None:
    (root / "oslo").mkdir()
    with pytest.raises(DataError, match="client oslo holds no data"):
        prepare(data(root))
    (root / "oslo" / "x.npy").write_bytes(b"")
    (root / "oslo" / "data.csv").write_text("")
    with pytest.raises(DataError, match="either"):
        prepare(data(root))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.full((60, 12, 2), np.nan)}, "NaN"),
        ({"x": np.zeros((60, 12, 3))}, r"\[n, 12, 2\]"),
        ({"y": np.full(60, 3)}, "0 to 2"),
        ({"y": np.zeros(59, np.int64)}, r"int64 \[60\]"),
    ],
)
def test_arrays_that_are_not_what_their_schema_says_are_named(
    prepare: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    for site in SITES:
        arrays = {"x": np.zeros((60, 12, 2)), "y": np.arange(60) % 3} | (change if site == "rome" else {})
        examples.write(tmp_path / "sites" / site, arrays["x"], arrays["y"], SCHEMA)
    with pytest.raises(DataError, match=rf"rome.*{words}"):
        prepare({"source": "folders", "path": str(tmp_path / "sites")})


def test_a_schema_that_is_none_is_named(prepare: Any, tmp_path: Path) -> None:
    examples.write(tmp_path / "sites" / "rome", np.zeros((60, 12, 2)), np.arange(60) % 3, SCHEMA)
    (tmp_path / "sites" / "rome" / "schema.json").write_text(json.dumps({"format": "fededge-schema-2"}))
    with pytest.raises(FedEdgeError, match=r"schema\.json"):
        prepare({"source": "folders", "path": str(tmp_path / "sites")})
