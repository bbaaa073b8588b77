"""Datasets: client folders that change as a whole, while others read them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import examples
from fededge.device import facts
from fededge.device.clock import Clock
from fededge.device.relay.datasets import Datasets
from fededge.device.relay.file import load
from fededge.device.relay.items import Limits, Reading
from fededge.device.relay.reader import Reader
from fededge.device.relay.store import Store
from fededge.documents import Schema
from fededge.errors import StorageError
from tests.relay_process import Relay, group

pytestmark = pytest.mark.environment("edge")


class Kept:
    """A store with its datasets, whose time the test sets."""

    def __init__(self, folder: Path, changes: dict[str, Any]) -> None:
        self.folder, self.seconds = folder / "relay", 0.0
        self.folder.mkdir()
        groups = load(Relay(folder, 1883, group(**changes)).file).groups
        self.store = Store(self.folder / "relay.db", Clock(), {"rooms": Limits("form", 10_000, 1e6)})
        self.reader = Reader(self.folder / "relay.db")
        self.datasets = Datasets(groups, self.folder, lambda: self.seconds)
        self.link = self.folder / "datasets" / "occupancy"

    def add(self, *numbers: int, sensor: str = "room-1", label: float | None = 1.0) -> None:
        values = [np.array([number, -number], "<f4").tobytes() for number in numbers]
        pairs = zip(numbers, values, strict=True)
        self.store.commit(
            [Reading("rooms", sensor, n, None, value, label, again=False) for n, value in pairs]
        )

    def due(self, seconds: float = 0.0) -> int:
        """Let time go by, make what is due; the version that is the newest then, 0 for none."""
        self.seconds += seconds
        self.datasets.make_due(self.reader)
        return int(self.link.resolve().name) if self.link.exists() else 0

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return examples.read(self.link / name)

    def conditions(self) -> Any:
        return json.loads((self.folder / "conditions.json").read_text())


@pytest.fixture
def kept(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    rule = {"new_examples": 10, "every_seconds": 100, "seconds_between": 50} | getattr(request, "param", {})
    kept = Kept(tmp_path, {"dataset": rule})
    with closing(kept.store), closing(kept.reader):
        yield kept


def test_a_dataset_is_offered_as_any_other(kept: Kept) -> None:
    kept.add(*range(100))
    assert kept.due() == 1
    (x, y), (test_x, _) = kept.part("train"), kept.part("test")
    assert len(x) + len(test_x) == 100
    assert 5 <= len(test_x) <= 40
    assert sorted({*x[:, 0], *test_x[:, 0]}) == list(range(100))
    assert (x[:, 1] == -x[:, 0]).all()
    assert set(y) == {1}
    told = facts.dataset("occupancy", kept.link)
    assert (told.train, told.test) == (len(x), len(test_x))
    assert told.schema_digest == Schema.read(kept.link / "train" / "schema.json").form_digest


def test_it_is_made_when_there_is_enough_or_when_it_is_time(kept: Kept) -> None:
    kept.add(1, 2, 3)
    assert kept.due() == 0
    kept.add(*range(4, 11))
    assert kept.due() == 1
    kept.add(*range(11, 31))
    assert kept.due(49) == 1
    assert kept.due(1) == 2
    kept.add(31)
    assert kept.due(99) == 2
    assert kept.due(1) == 3
    assert kept.due(1000) == 3


def test_an_example_is_in_the_same_part_in_every_version(kept: Kept) -> None:
    kept.add(*range(50))
    kept.due()
    before = {part: set(kept.part(part)[0][:, 0]) for part in ("train", "test")}
    kept.add(*range(50, 100))
    kept.due(100)
    for part, numbers in before.items():
        assert numbers <= set(kept.part(part)[0][:, 0])


def test_who_reads_a_version_reads_it_to_its_end(kept: Kept) -> None:
    kept.add(*range(50))
    kept.due()
    bound = kept.link.resolve()
    x, _ = examples.read(bound / "train")
    before = np.array(x)
    for version in range(2, 4):
        kept.add(*range(version * 50, version * 50 + 50))
        assert kept.due(100) == version
    assert (x == before).all()
    assert (examples.read(bound / "train")[0] == before).all()
    kept.add(*range(500, 550))
    kept.due(100)
    assert sorted(each.name for each in bound.parent.iterdir()) == ["2", "3", "4"]
    assert (x == before).all()


@pytest.mark.parametrize("kept", [{"window": 4}, {"window": 4, "step": 1}], indirect=True)
def test_windows_are_readings_of_one_sensor_in_their_order(kept: Kept, request: Any) -> None:
    kept.add(*range(41))
    kept.add(*range(1000, 1003), sensor="room-2")
    kept.due()
    x = np.concatenate([kept.part("train")[0], kept.part("test")[0]])
    assert x.shape[1:] == (4, 2)
    assert (np.diff(x[:, :, 0], axis=1) == 1).all()
    step = request.node.callspec.params["kept"].get("step", 4)
    assert sorted(x[:, -1, 0]) == list(range(40, 2, -step))[::-1]


@pytest.mark.parametrize("kept", [{"most": 20}], indirect=True)
def test_the_newest_of_each_sensor_are_taken(kept: Kept) -> None:
    kept.add(*range(100))
    kept.add(*range(1000, 1100), sensor="room-2")
    kept.due()
    numbers = np.concatenate([kept.part("train")[0], kept.part("test")[0]])[:, 0]
    assert sorted(numbers) == [*range(90, 100), *range(1090, 1100)]


def test_readings_without_a_label_are_left_out(kept: Kept) -> None:
    kept.add(*range(20))
    kept.add(*range(20, 40), label=None)
    kept.due()
    assert max(np.concatenate([kept.part("train")[0], kept.part("test")[0]])[:, 0]) == 19


def test_an_interrupted_version_is_passed_over(kept: Kept) -> None:
    kept.add(*range(20))
    kept.due()
    left = kept.link.resolve().parent / "2"
    left.mkdir()
    (left / "half").touch()
    kept.add(*range(20, 40))
    assert kept.due(100) == 3


def test_a_version_that_cannot_be_written_leaves_the_last(kept: Kept) -> None:
    kept.add(*range(20))
    kept.due()
    versions = kept.link.resolve().parent
    (kept.link.parent / ".occupancy.new").mkdir()  # in the way of the link
    kept.add(*range(20, 40))
    with pytest.raises(StorageError):
        kept.due(100)
    assert [each.name for each in versions.iterdir()] == ["1"]
    assert len(kept.part("train")[0]) + len(kept.part("test")[0]) == 20


def test_new_examples_are_those_that_no_round_learned_from(kept: Kept) -> None:
    kept.add(*range(20))
    kept.due()
    assert kept.conditions()["new_examples"] == kept.datasets.new_examples == 20
    _remember_round(kept.folder / "store.db", "round-0", "canceled")
    kept.due()
    assert kept.conditions()["new_examples"] == 20
    _remember_round(kept.folder / "store.db", "round-1", "kept")
    kept.due()
    assert kept.conditions()["new_examples"] == 0
    kept.add(*range(20, 35))
    kept.due(100)
    assert kept.conditions()["new_examples"] == 15
    shutil.rmtree(kept.folder / "datasets" / "occupancy.versions" / "1")
    kept.due()
    assert kept.conditions() == {"new_examples": 15, "learned": 20, "round": "round-1"}


def _remember_round(path: Path, round: str, outcome: str) -> None:
    """Write down a round as a client does."""
    from fededge.device.store import Store as ClientStore

    with closing(ClientStore(path)) as store:
        row = (round, "signer", 1.0, "rule", "task", "train", 1, "boot", 1.0, 1.0, 1, outcome)
        store._database.execute(f"INSERT INTO rounds VALUES ({', '.join('?' * len(row))})", row)
