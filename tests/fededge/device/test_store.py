"""What a client must not forget: phases of assignments, and the rounds that it knows."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fededge.device import store as stores
from fededge.device.clock import Clock
from fededge.device.history import remembered
from fededge.device.store import Store
from fededge.errors import StorageError
from fededge.protocol import Assignment, Order, ReportMessage
from tests.stand_in_gateway import KEY, StandInGateway

pytestmark = pytest.mark.environment("edge")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def accept(store: Store, number: int, **changes: Any) -> tuple[Assignment, Order]:
    gateway = StandInGateway()
    gateway.url = "http://localhost"
    assignment = gateway.order(number, **changes)
    order = Order.opened(assignment.order, KEY.public)
    store.accept(assignment, order, "signer", "ada", Clock().now())
    return assignment, order


def fill(store: Store) -> None:
    for number in range(2, 1000):
        accept(store, number)


def test_each_phase_is_there_after_a_restart(path: Path) -> None:
    def again() -> Store:
        store.close()
        return Store(path)

    store = Store(path)
    assignment, _ = accept(store, 1)
    (held,) = (store := again()).held()
    assert (held.assignment, held.round, held.report) == (assignment, "r-1", None)
    report = ReportMessage(assignment=assignment.id, counts={"examples": 3.0}, seconds=1.5)
    store.finish(report)
    (held,) = (store := again()).held()
    assert held.report == report
    store.drop(assignment.id, "kept")
    store = again()
    assert store.held() == []
    assert [(known.round, known.outcome) for known in remembered(path, 9)] == [("r-1", "kept")]
    store.close()


def test_a_round_that_was_worked_on_is_known_and_one_that_was_not_is_not(path: Path) -> None:
    store = Store(path)
    worked, _ = accept(store, 1)
    store.finish(ReportMessage(assignment=worked.id, failure="no", seconds=0.0))
    store.drop(worked.id, "late")
    canceled, _ = accept(store, 2)
    store.drop(canceled.id, "canceled")
    assert store.knows("r-1", "signer", 1.0)
    assert not store.knows("r-2", "signer", 2.0)
    assert not store.knows("r-3", "signer", 0.0)
    accept(store, 2)
    store.close()


def test_rounds_that_are_too_old_to_be_remembered_are_known(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "KEPT", 3)
    store = Store(path)
    for number in range(1, 8):
        assignment, _ = accept(store, number)
        store.finish(ReportMessage(assignment=assignment.id, failure="no", seconds=0.0))
        store.drop(assignment.id, "kept")
    assert len(remembered(path, 99)) == 4  # three, and the one that was under way then
    assert store.knows("r-1", "signer", 1.0)
    assert store.knows("r-new-and-yet-old", "signer", 2.5)
    assert not store.knows("r-8", "signer", 8.0)
    assert not store.knows("r-1", "another signer", 1.0)
    store.close()


def test_a_disk_that_is_full_loses_nothing_that_was_written(path: Path) -> None:
    store = Store(path)
    accept(store, 1)
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="full"):
        fill(store)
    kept = len(store.held())
    store.close()
    assert len(Store(path).held()) == kept >= 1


def test_a_store_of_an_earlier_version_is_brought_to_this_one(
    path: Path,
) -> None:
    gateway = StandInGateway()
    gateway.url = "http://localhost"
    assignment = gateway.order(1).model_dump_json()
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript("".join(stores.SCHEMAS[:2]) + "PRAGMA user_version = 2")
        report = ReportMessage(assignment="r-1.ward-3", failure="no", seconds=1.0).model_dump_json()
        held = [("r-1.ward-3", "r-1", "uploaded", report), ("r-2.ward-3", "r-2", "fetched", None)]
        for id, round, phase, said in held:
            database.execute(
                "INSERT INTO assignments VALUES (?, ?, ?, ?, ?)", (id, round, assignment, phase, said)
            )
            rest = ("s", 1.0, "ada", "t", "train", 1, "b", 1.0, 1.0, 0, "accepted")
            database.execute(f"INSERT INTO rounds VALUES (?{', ?' * 11})", (round, *rest))
    store = Store(path)
    assert [(held.round, held.report is None) for held in store.held()] == [("r-1", False), ("r-2", True)]
    store.close()


def test_a_store_that_is_damaged_or_newer_is_refused_by_name(path: Path) -> None:
    store = Store(path)
    store._database.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StorageError, match="newer FedEdge"):
        Store(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="not a database"):
        Store(path)
