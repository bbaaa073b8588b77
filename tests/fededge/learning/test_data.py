"""Examples: where they come from, how they are spread, and how they lie in a client's folder."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fededge import examples
from fededge.documents import Feature, Label, Schema
from fededge.errors import DataError, StorageError
from fededge.learning.data import folders, partition
from fededge.learning.data.source import Source
from fededge.learning.data.sources import open_source
from fededge.learning.data.survey import survey
from fededge.task import FederatedTask, Partition

pytestmark = pytest.mark.environment("worker")

IMAGES = Schema(
    features=[Feature(name="image", dtype="float32", shape=[28, 28, 1])],
    label=Label(kind="class", classes=10),
)


def task(**parts: object) -> FederatedTask:
    return FederatedTask.from_json(json.dumps({"name": "t", "data": {"source": "digits"}} | parts))


def npz(folder: Path, **changes: Any) -> FederatedTask:
    sections = {"partition": changes.pop("partition")} if "partition" in changes else {}
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 40),
        "x_test": rng.integers(0, 256, (8, 28, 28), dtype=np.uint8),
        "y_test": rng.integers(0, 10, 8),
    } | changes
    np.savez(folder / "d.npz", **arrays)
    key = "owner" if "owner" in arrays else None
    return task(data={"source": "npz", "path": str(folder / "d.npz"), "key": key}, **sections)


def loaded(of: FederatedTask) -> tuple[Source, np.ndarray, np.ndarray]:
    """The source, checked, and all of its x and y."""
    source = open_source(of.local_data, of.seed)
    survey(source)
    batches = list(source.batches())
    return source, np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches])


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["iid", "dirichlet", "shards", "quantity", "time"]),
    clients=st.integers(1, 8),
    alpha=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_every_example_goes_to_exactly_one_client(kind: str, clients: int, alpha: float, seed: int) -> None:
    how = Partition(kind=kind, clients=clients, alpha=alpha, min_examples=2)  # type: ignore[arg-type]
    y = np.random.default_rng(seed).integers(0, 10, 400)
    times = np.random.default_rng(seed).random(400)
    shares = partition.assign(how, seed, y, times=times)
    assert len(shares) == clients
    assert sorted(np.concatenate(list(shares.values()))) == list(range(400))
    again = partition.assign(how, seed, y, times=times)
    assert all((shares[name] == again[name]).all() for name in shares)


def test_a_small_alpha_skews_labels_and_iid_does_not() -> None:
    y = np.repeat(np.arange(10), 100)

    def largest_share(how: dict[str, object]) -> float:
        shares = partition.assign(task(partition={"clients": 5, **how}).partition, 0, y)
        counts = np.stack([np.bincount(y[indices], minlength=10) for indices in shares.values()])
        return float((counts.max(axis=0) / counts.sum(axis=0)).mean())

    assert largest_share({"kind": "dirichlet", "alpha": 0.1}) > 0.6
    assert largest_share({"kind": "shards", "shards": 2}) > 0.4
    assert largest_share({"kind": "iid"}) < 0.35


def test_shards_give_a_client_few_classes() -> None:
    y = np.repeat(np.arange(10), 100)
    how = task(partition={"kind": "shards", "clients": 10, "shards": 2}).partition
    classes = [len(np.unique(y[indices])) for indices in partition.assign(how, 0, y).values()]
    assert max(classes) <= 4


def test_quantity_skews_sizes_and_time_gives_consecutive_stretches() -> None:
    y, times = np.zeros(1000, int), np.random.default_rng(0).permutation(1000).astype(float)
    how = Partition(kind="quantity", clients=5, alpha=0.3)
    sizes = [len(indices) for indices in partition.assign(how, 0, y).values()]
    assert max(sizes) > 3 * min(sizes)
    stretches = partition.assign(Partition(kind="time", clients=5), 0, y, times=times).values()
    ends = [(times[indices].min(), times[indices].max()) for indices in stretches]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


def test_too_few_examples_for_a_client_is_named() -> None:
    with pytest.raises(DataError, match="min_examples"):
        partition.assign(
            task(partition={"kind": "iid", "clients": 50, "min_examples": 10}).partition,
            0,
            np.zeros(100, int),
        )


def test_a_natural_key_makes_a_client_of_each_owner(tmp_path: Path) -> None:
    owners = np.array(["anna", "ben"] * 20)
    natural = {"kind": "natural"}
    whole = npz(tmp_path, owner=owners, partition=natural)
    found = survey(open_source(whole.local_data, whole.seed))
    assert found.owners is not None
    shares = partition.assign(whole.partition, whole.seed, found.groups[:40], found.owners[:40], found.names)
    assert {name: len(indices) for name, indices in shares.items()} == {"anna": 20, "ben": 20}
    assert (shares["anna"] == np.arange(0, 40, 2)).all()


@pytest.mark.parametrize("owners", [["../x", "..-x"], ["", "a"], ["..", "a"]])
def test_owners_that_give_no_distinct_folder_are_refused(owners: list[str]) -> None:
    natural = task().model_copy(update={"partition": task().partition.model_copy(update={"kind": "natural"})})
    with pytest.raises(DataError, match="client name"):
        partition.assign(natural.partition, 0, np.zeros(40, int), np.arange(40) % 2, owners)


def test_digits_are_images_in_range_and_the_same_every_time() -> None:
    (source, x, _), (_, again, _) = (loaded(task()) for _ in range(2))
    assert source.schema.shape == (28, 28, 1)
    assert x.shape == (1797, 28, 28, 1)
    assert x.dtype == np.float32
    assert 0 <= x.min() < x.max() <= 1
    assert (x == again).all()


def test_uint8_images_stay_levels(tmp_path: Path) -> None:
    source, x, _ = loaded(npz(tmp_path))
    assert x.shape == (48, 28, 28, 1)
    assert x.dtype == source.schema.dtype == "uint8"
    assert x.max() > 1


@pytest.mark.parametrize(
    ("x", "shape", "features"),
    [
        (np.zeros((48, 7), np.float64), (7,), 7),
        (np.zeros((48, 7), np.int32), (7,), 7),
        (np.zeros((48, 30, 3), np.float32), (30, 3), 1),
        (np.zeros((48, 32, 32, 3), np.uint8), (32, 32, 3), 1),
        (np.zeros((48, 4, 4, 4, 2), np.float32), (4, 4, 4, 2), 1),
    ],
)
def test_arrays_of_any_shape_are_examples(
    tmp_path: Path, x: np.ndarray, shape: tuple[int, ...], features: int
) -> None:
    source, found, _ = loaded(npz(tmp_path, x_train=x[:40], x_test=x[40:]))
    assert source.schema.shape == found.shape[1:] == shape
    assert len(source.schema.features) == features


@pytest.mark.parametrize(
    ("y", "kind", "classes"),
    [
        (np.arange(48) % 5, "class", 5),
        (np.array(["cat", "dog"] * 24), "class", 2),
        (np.arange(48) % 2 == 0, "class", 2),
        (np.linspace(0, 1, 48), "number", 0),
        (np.ones((48, 3)), "number", 0),
        (np.arange(48 * 3).reshape(48, 3) % 2, "multi-label", 3),
        (np.arange(48 * 6).reshape(48, 6) % 9, "sequence", 9),
    ],
)
def test_the_kind_of_label_is_read_from_the_labels(
    tmp_path: Path, y: np.ndarray, kind: str, classes: int
) -> None:
    source, _, found = loaded(npz(tmp_path, y_train=y[:40], y_test=y[40:]))
    assert (source.schema.label.kind, source.schema.label.classes) == (kind, classes)
    assert found.dtype == source.schema.label.dtype
    assert found.shape == (48, *source.schema.label.stored_shape)


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
        loaded(spoilt)


def test_mnist_from_a_file(shared: Path) -> None:
    mnist = task(data={"source": "npz", "path": str(shared / "data" / "mnist.npz")})
    source, x, _ = loaded(mnist)
    assert x.shape == (7996 + 5000, 28, 28, 1)
    held = survey(source).held
    assert held is not None
    assert np.count_nonzero(held) == 5000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"x_train": np.full((40, 9), np.nan), "x_test": np.zeros((8, 9))},
            "NaN or infinite, the first in x0",
        ),
        ({"x_train": np.zeros((40, 9)), "x_test": np.full((8, 9), np.inf)}, "infinite"),
        ({"x_train": np.zeros((40, 9)), "x_test": np.full((8, 9), 1e300)}, "infinite"),
        ({"x_train": np.zeros((40, 20, 20), np.uint8)}, "change from uint8"),
        ({"x_train": np.zeros(40), "x_test": np.zeros(8)}, "shape"),
        ({"x_train": np.array(["a"] * 40), "x_test": np.array(["a"] * 8)}, "give numbers"),
        ({"y_train": np.zeros(39, int)}, "one label each"),
        ({"y_train": np.full(40, np.nan), "y_test": np.zeros(8)}, "NaN"),
        ({"y_train": np.full(40, -1)}, "whole numbers from 0"),
        ({"y_train": np.full(40, 10)}, "class 0 has no example|class . has no example"),
        (
            {"y_train": np.full(40, 2**63 + 5, np.uint64), "y_test": np.zeros(8, np.uint64)},
            "label 9223372036854775813",
        ),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(8, int)}, "one class"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8), "y_train": np.zeros(0, int)}, "both needed"),
    ],
)
def test_data_that_the_model_cannot_learn_from_is_named(
    tmp_path: Path, changes: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        loaded(npz(tmp_path, **changes))


def test_pickles_other_files_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pickled"):
        loaded(npz(tmp_path, x_train=np.array([{"a": 1}] * 40, dtype=object)))
    (tmp_path / "d.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"not an \.npz"):
        loaded(task(data={"source": "npz", "path": str(tmp_path / "d.npz")}))
    np.savez(tmp_path / "d.npz", x_train=np.zeros(1))
    with pytest.raises(DataError, match="lacks y_train"):
        loaded(task(data={"source": "npz", "path": str(tmp_path / "d.npz")}))
    with pytest.raises(StorageError, match=r"none\.npz"):
        loaded(task(data={"source": "npz", "path": str(tmp_path / "none.npz")}))


def test_client_folders_hold_all_examples_once_and_the_population_only_counts(tmp_path: Path) -> None:
    whole = task()
    clients, test = tmp_path / "clients", tmp_path / "test"
    population = folders.prepare(whole.local_data, whole.partition, whole.seed, clients, test)
    total = 0
    for client in population.clients:
        y = examples.read(clients / client.id / "train", population.example)[1]
        assert np.bincount(y, minlength=10).tolist() == client.labels
        assert len(y) == client.train
        total += len(y) + len(examples.read(clients / client.id / "test")[1])
    assert total == population.examples == 1438
    assert len(examples.read(test)[0]) == 359
    assert population.simulated
    assert population.example.shape == (28, 28, 1)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"x.npy", "y.npy", "schema.json"}


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
            examples.read(tmp_path, IMAGES)
    (tmp_path / "x.npy").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match="Prepare the data again"):
        examples.read(tmp_path)
