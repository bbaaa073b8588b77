"""Examples: where they come from, how they are spread, and how they lie in a client's folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fededge import examples
from fededge.errors import DataError, StorageError
from fededge.learning.data import folders, partition, sources
from fededge.task import FederatedTask, Partition

pytestmark = pytest.mark.environment("worker")


def task(**parts: object) -> FederatedTask:
    return FederatedTask.from_json(json.dumps({"name": "t", "data": {"source": "digits"}} | parts))


def npz(folder: Path, **changes: np.ndarray) -> FederatedTask:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 40),
        "x_test": rng.integers(0, 256, (8, 28, 28), dtype=np.uint8),
        "y_test": rng.integers(0, 10, 8),
    } | changes
    np.savez(folder / "d.npz", **arrays)
    key = "owner" if "owner" in arrays else None
    return task(data={"source": "npz", "path": str(folder / "d.npz"), "key": key})


@settings(max_examples=30)
@given(
    kind=st.sampled_from(["iid", "dirichlet"]),
    clients=st.integers(1, 8),
    alpha=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_every_example_goes_to_exactly_one_client(kind: str, clients: int, alpha: float, seed: int) -> None:
    how = Partition(kind=kind, clients=clients, alpha=alpha, min_examples=2)  # type: ignore[arg-type]
    y = np.random.default_rng(seed).integers(0, 10, 400)
    shares = partition.assign(how, seed, y)
    assert len(shares) == clients
    assert sorted(np.concatenate(list(shares.values()))) == list(range(400))
    again = partition.assign(how, seed, y)
    assert all((shares[name] == again[name]).all() for name in shares)


def test_a_small_alpha_skews_labels_and_iid_does_not() -> None:
    y = np.repeat(np.arange(10), 100)

    def largest_share(how: dict[str, object]) -> float:
        shares = partition.assign(task(partition={"clients": 5, **how}).partition, 0, y)
        counts = np.stack([np.bincount(y[indices], minlength=10) for indices in shares.values()])
        return float((counts.max(axis=0) / counts.sum(axis=0)).mean())

    assert largest_share({"kind": "dirichlet", "alpha": 0.1}) > 0.6
    assert largest_share({"kind": "iid"}) < 0.35


def test_too_few_examples_for_a_client_is_named() -> None:
    with pytest.raises(DataError, match="min_examples"):
        partition.assign(
            task(partition={"kind": "iid", "clients": 50, "min_examples": 10}).partition,
            0,
            np.zeros(100, int),
        )


def test_a_natural_key_makes_a_client_of_each_owner(tmp_path: Path) -> None:
    owners = np.array(["anna", "ben"] * 20)
    loaded = npz(tmp_path, owner=owners).model_copy(
        update={"partition": task().partition.model_copy(update={"kind": "natural"})}
    )
    found = sources.load(loaded.data, loaded.seed)
    shares = partition.assign(loaded.partition, loaded.seed, found.y, found.owners)
    assert {name: len(indices) for name, indices in shares.items()} == {"anna": 20, "ben": 20}
    assert (shares["anna"] == np.arange(0, 40, 2)).all()


@pytest.mark.parametrize("owners", [["../x", "..-x"], ["", "a"], ["..", "a"]])
def test_owners_that_give_no_distinct_folder_are_refused(owners: list[str]) -> None:
    natural = task().model_copy(update={"partition": task().partition.model_copy(update={"kind": "natural"})})
    with pytest.raises(DataError, match="client name"):
        partition.assign(natural.partition, 0, np.zeros(40, int), np.array(owners * 20))


def test_digits_are_images_in_range_and_the_same_every_time() -> None:
    first, second = (sources.load(task().data, 0) for _ in range(2))
    assert first.x.shape == (1438, 28, 28, 1)
    assert first.test_x.shape == (359, 28, 28, 1)
    assert first.x.dtype == np.float32
    assert 0 <= first.x.min() < first.x.max() <= 1
    assert (first.x == second.x).all()


def test_uint8_images_are_scaled(tmp_path: Path) -> None:
    found = sources.load(npz(tmp_path).data, 0)
    assert found.x.shape == (40, 28, 28, 1)
    assert found.x.max() <= 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "npy"])
def test_a_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    spoilt = npz(tmp_path)
    file = tmp_path / "d.npz"
    whole = bytearray(file.read_bytes())
    if damage == "truncated":
        whole = whole[: len(whole) // 2]
    if damage == "flipped":
        whole[5000] ^= 1
    file.write_bytes(whole)
    if damage == "npy":
        with file.open("wb") as stream:
            np.save(stream, np.zeros(3))
    with pytest.raises(DataError, match=r"d\.npz is not an \.npz file"):
        sources.load(spoilt.data, 0)


def test_mnist_from_a_file(shared: Path) -> None:
    found = sources.load(task(data={"source": "npz", "path": str(shared / "data" / "mnist.npz")}).data, 0)
    assert found.x.shape == (7996, 28, 28, 1)
    assert found.test_x.shape == (5000, 28, 28, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": np.full((40, 28, 28), np.nan, np.float32)}, "NaN"),
        ({"x_test": np.full((8, 28, 28), np.inf, np.float32)}, "infinite"),
        ({"x_train": np.zeros((40, 20, 20), np.uint8)}, "shape"),
        ({"x_train": np.zeros((40, 28, 28), np.float32) - 1}, "scale"),
        ({"x_train": np.zeros((40, 28, 28), np.int32)}, "int32"),
        ({"y_train": np.zeros(39, int)}, "one label each"),
        ({"y_train": np.zeros(40)}, "whole numbers"),
        ({"y_train": np.full(40, 10)}, "label 10"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8), "y_train": np.zeros(0, int)}, "both are needed"),
    ],
)
def test_data_that_the_model_cannot_learn_from_is_named(
    tmp_path: Path, changes: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        sources.load(npz(tmp_path, **changes).data, 0)


def test_pickles_other_files_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pickled"):
        sources.load(npz(tmp_path, x_train=np.array([{"a": 1}], dtype=object)).data, 0)
    (tmp_path / "d.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"not an \.npz"):
        sources.load(task(data={"source": "npz", "path": str(tmp_path / "d.npz")}).data, 0)
    np.savez(tmp_path / "d.npz", x_train=np.zeros(1))
    with pytest.raises(DataError, match="lacks y_train"):
        sources.load(task(data={"source": "npz", "path": str(tmp_path / "d.npz")}).data, 0)
    with pytest.raises(StorageError, match=r"none\.npz"):
        sources.load(task(data={"source": "npz", "path": str(tmp_path / "none.npz")}).data, 0)


def test_client_folders_hold_all_examples_once_and_the_population_only_counts(tmp_path: Path) -> None:
    whole = task()
    clients, test = tmp_path / "clients", tmp_path / "test"
    population = folders.prepare(whole.data, whole.partition, whole.seed, clients, test)
    total = 0
    for client in population.clients:
        y = examples.read(clients / client.id / "train", (28, 28, 1), 10)[1]
        assert np.bincount(y, minlength=10).tolist() == client.labels
        assert len(y) == client.train
        total += len(y) + len(examples.read(clients / client.id / "test")[1])
    assert total == population.examples == 1438
    assert len(examples.read(test)[0]) == 359
    assert population.simulated
    assert population.example.shape == (28, 28, 1)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"x.npy", "y.npy"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    with pytest.raises(StorageError, match="in-the-way"):
        examples.write(tmp_path / "in-the-way", np.zeros((1, 28, 28, 1)), np.zeros(1))


def test_a_damaged_folder_is_refused_before_it_is_used(tmp_path: Path) -> None:
    x, y = np.zeros((5, 28, 28, 1), np.float32), np.zeros(5, np.int64)
    damages: list[tuple[dict[str, Any], str]] = [
        ({"x": x - np.nan}, "NaN"),
        ({"x": x[:0]}, "n > 0"),
        ({"x": x.astype(np.float64)}, "float64"),
        ({"y": y[:3]}, r"\[5\]"),
        ({"y": y + 10}, "0 to 9"),
        ({"x": x[..., 0]}, r"\[n, 28, 28, 1\]"),
    ]
    for change, words in damages:
        arrays: dict[str, Any] = {"x": x, "y": y} | change
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(DataError, match=words):
            examples.read(tmp_path, (28, 28, 1), 10)
    (tmp_path / "x.npy").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match="Prepare the data again"):
        examples.read(tmp_path)
