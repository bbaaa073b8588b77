"""The store: each message once, whole batches, within its limits, whatever the clock says."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fededge.device.clock import Clock, Moment
from fededge.device.relay.items import Item, Labeling, Limits, Reading, Refusal
from fededge.device.relay.payload import Reason
from fededge.device.relay.reader import Reader, Stored
from fededge.device.relay.store import Store
from fededge.errors import RelayError, StorageError

pytestmark = pytest.mark.environment("edge")

TEN_YEARS = 10 * 365 * 86_400.0


class Machine(Clock):
    """A machine whose time the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.boot, self.ticks, self.wall = "first", 1000.0, 1.7e9

    def now(self) -> Moment:
        return Moment(self.boot, self.ticks, self.wall)


def read(id: int, sensor: str = "room-1", label: float | None = 1.0, **other: Any) -> Reading:
    return Reading(
        "rooms", sensor, id, **{"time": None, "value": b"1234", "again": False, "label": label} | other
    )


def opened(folder: Path, clock: Clock | None = None, count: int = 100, seconds: float = 1000.0) -> Any:
    return closing(Store(folder / "relay.db", clock or Machine(), {"rooms": Limits("form", count, seconds)}))


def ids(folder: Path, sensor: str = "room-1") -> list[int]:
    return [each.id for each in newest(folder, sensor)][::-1]


def newest(folder: Path, sensor: str = "room-1") -> list[Stored]:
    with closing(Reader(folder / "relay.db")) as reader:
        return reader.newest("rooms", sensor, 1 << 40)


def refused(folder: Path, sensor: str = "room-1") -> dict[str, int]:
    with closing(Reader(folder / "relay.db")) as reader:
        return next(each.refused for each in reader.sensors() if each.name == sensor)


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([read(1), read(2, "room-2", None), Refusal("rooms", "room-1", Reason.fast)])
        store.commit([Refusal("rooms", "room-1", Reason.fast), Refusal("", "", Reason.unknown)])
    with opened(tmp_path) as store:
        assert store.sensors == {("rooms", "room-1"), ("rooms", "room-2")}
        assert store.labeled == {"rooms": 1}
    assert newest(tmp_path) == [Stored("room-1", 1, b"1234", 1.0)]
    assert newest(tmp_path, "room-2") == [Stored("room-2", 2, b"1234", None)]
    assert refused(tmp_path) == {"too-fast": 2}
    assert refused(tmp_path, "") == {"unknown-sensor": 1}


def test_a_repetition_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([read(1), read(2), read(1, value=b"lie!")])
        store.commit([read(2, value=b"lie!"), read(2, again=True)])
        assert store.labeled == {"rooms": 2}
    assert [each.value for each in newest(tmp_path)] == [b"1234", b"1234"]
    assert refused(tmp_path) == {"repeated": 2}


def test_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.commit([read(1)])
        with pytest.raises(StorageError):
            store.commit([read(2, "room-9"), read(3), read(4, value={})])
        assert store.sensors == {("rooms", "room-1")}
        store.commit([read(2, "room-9"), read(3)])
    assert ids(tmp_path) == [1, 3]
    assert ids(tmp_path, "room-9") == [2]


def test_the_oldest_go_where_there_are_too_many_and_do_not_come_again(tmp_path: Path) -> None:
    with opened(tmp_path, count=32) as store:
        for id in range(200):
            store.commit([read(id)])
            assert len(ids(tmp_path)) <= 32
        kept = ids(tmp_path)
        assert kept == list(range(200 - len(kept), 200))
        assert len(kept) >= 30
        store.commit([read(id) for id in range(200)])
    assert ids(tmp_path) == kept
    assert refused(tmp_path) == {"repeated": 200}


def test_the_old_go_by_relay_time(tmp_path: Path) -> None:
    machine = Machine()
    with opened(tmp_path, machine, seconds=1000) as store:
        for id in range(20):
            store.commit([read(id)])
            machine.ticks += 100
            store.prune()
        assert 9 <= len(ids(tmp_path)) <= 10
        machine.ticks += 5000
        store.prune()
        assert ids(tmp_path) == []
        store.commit([read(19), read(20)])
    assert ids(tmp_path) == [20]


@pytest.mark.parametrize("jump", [TEN_YEARS, -TEN_YEARS])
def test_a_clock_that_is_ten_years_off_changes_nothing(tmp_path: Path, jump: float) -> None:
    machine = Machine()
    with opened(tmp_path, machine) as store:
        store.commit([read(1)])
        machine.wall += jump
        store.commit([read(2)])
        store.prune()
        at = store.now()
    machine.boot, machine.ticks = "second", 5.0
    with opened(tmp_path, machine) as store:
        assert store.now() == at + 5.0
        store.prune()
        store.commit([read(1), read(3)])
    assert ids(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("wrong", [1.7e9 + TEN_YEARS, 1.7e9 - TEN_YEARS])
def test_one_id_that_is_ten_years_off_locks_no_sensor_out(tmp_path: Path, wrong: float) -> None:
    machine = Machine()
    with opened(tmp_path, machine, count=16) as store:
        for id in [1, 2, int(wrong), *range(3, 60)]:
            store.commit([read(id if id > 1e6 else 1_700_000_000 + id)])
            machine.ticks += 1
    assert ids(tmp_path)[-1] == 1_700_000_059
    assert int(wrong) not in ids(tmp_path)


def test_a_later_label_is_for_the_readings_of_its_window(tmp_path: Path) -> None:
    machine = Machine()
    with opened(tmp_path, machine) as store:
        store.commit([read(time, label=None, time=float(time)) for time in (10, 50, 90, 130)])
        store.commit([read(1, "room-2", label=None, time=95.0)])
        store.commit([Labeling("rooms", "room-1", 1, 100.0, 1.0, 60.0, again=False)])
        assert store.labeled == {"rooms": 2}
        store.commit([Labeling("rooms", "room-1", 1, 140.0, 0.0, 60.0, again=False)])
        store.commit([Labeling("rooms", "room-1", 2, 130.0, 0.0, 60.0, again=False)])
        assert store.labeled == {"rooms": 3}
    assert [(each.id, each.label) for each in newest(tmp_path)[::-1]] == [
        (10, None),
        (50, 1.0),
        (90, 1.0),
        (130, 0.0),
    ]
    assert [each.label for each in newest(tmp_path, "room-2")] == [None]
    assert refused(tmp_path) == {"repeated": 1}


def test_labels_by_arrival_need_no_clock_of_the_sensors(tmp_path: Path) -> None:
    machine = Machine()
    with opened(tmp_path, machine) as store:
        for id in range(3):
            store.commit([read(id, label=None)])
            machine.ticks += 40
        store.commit([Labeling("rooms", "room-1", 1, None, 1.0, 90.0, again=False)])
    assert [each.label for each in newest(tmp_path)[::-1]] == [None, 1.0, 1.0]


def test_readings_of_another_form_are_not_mixed_in(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with pytest.raises(RelayError, match="other features or labels"):
        Store(tmp_path / "relay.db", Machine(), {"rooms": Limits("other", 10, 10.0)})


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "relay.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer FedEdge"):
        opened(tmp_path)


KILLED = """
import sys
from pathlib import Path
from fededge.device.clock import Clock
from fededge.device.relay.items import Limits, Reading
from fededge.device.relay.store import Store
store = Store(Path(sys.argv[1]), Clock(), {"rooms": Limits("form", 1000, 1e6)})
for batch in range(1000):
    store.commit([Reading("rooms", "room-1", batch * 10 + n, None, b"1234", 1.0, False) for n in range(10)])
    print(batch, flush=True)
"""


def test_whole_batches_are_there_after_a_kill(tmp_path: Path) -> None:
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "relay.db")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        told = [process.stdout.readline() for _ in range(20)]
        process.kill()
        told += process.stdout.readlines()
        process.wait()
        last = int([line for line in told if line.endswith("\n")][-1])
        kept = ids(tmp_path)
        assert kept[-1] >= last * 10 + 9
        assert len(kept) % 10 == 0
        (tmp_path / "relay.db").unlink()
        for beside in ("relay.db-wal", "relay.db-shm"):
            (tmp_path / beside).unlink(missing_ok=True)


def test_items_of_any_kind_go_in_one_batch(tmp_path: Path) -> None:
    items: list[Item] = [read(1, label=None), Labeling("rooms", "room-1", 1, None, 0.0, 1.0, again=False)]
    with opened(tmp_path, Clock(lambda: time.time())) as store:
        store.commit([*items, Refusal("rooms", "room-1", Reason.large)])
    assert newest(tmp_path)[0].label == 0.0
