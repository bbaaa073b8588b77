"""Transactions are whole, repeated where they have to be, and given up with a word of advice."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from fededge import settings
from fededge.errors import FedEdgeError, RegistryError
from fededge.fleet.registry.database import Registry, add, chunks, locked, update_each
from fededge.fleet.registry.tables import tenants
from tests.postgres import Postgres
from tests.registries import TENANT, at_once, make_tenant


def enrolled(registry: Registry, tenant: str = TENANT) -> int:
    query = select(tenants.c.enrolled).where(tenants.c.name == tenant)
    return registry.read(lambda connection: connection.execute(query).scalar_one())


def count_one(connection: Connection, tenant: str = TENANT) -> None:
    held = connection.execute(locked(select(tenants).where(tenants.c.name == tenant))).one()
    connection.execute(update(tenants).where(tenants.c.name == tenant).values(enrolled=held.enrolled + 1))


def test_the_default_is_a_file_in_the_home_folder() -> None:
    registry = Registry.open(settings.fleet_database())
    registry.ping()
    registry.close()
    file = settings.home() / "gateway" / "registry.db"
    assert file.exists()
    assert file.parent.stat().st_mode & 0o077 == 0


def test_sqlite_loses_nothing_that_was_committed_in_a_power_cut_and_keeps_its_references(
    tmp_path: Path,
) -> None:
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")

    def settings(**how: bool) -> list[object]:
        def found(connection: Connection) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names]

        return registry.run(found, **how)

    full, normal = 2, 1
    assert settings() == ["wal", full, 1]
    assert settings(durable=False) == ["wal", normal, 1]
    assert settings() == ["wal", full, 1]
    registry.close()


def test_what_raises_leaves_nothing_behind(registry: Registry) -> None:
    make_tenant(registry)

    def fails(connection: Connection) -> None:
        count_one(connection)
        raise FedEdgeError("no")

    with pytest.raises(FedEdgeError, match="no"):
        registry.run(fails)
    assert enrolled(registry) == 0


def test_many_writers_at_once_lose_no_count(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened(), opened()]
    make_tenant(registries[0])
    results = at_once([lambda n=n: registries[n % 3].run(count_one) for n in range(24)])  # type: ignore[misc]
    assert results == [None] * 24
    assert enrolled(registries[0]) == 24


def test_readers_do_not_wait_for_a_writer(registry: Registry) -> None:
    make_tenant(registry)
    written, read = threading.Event(), threading.Event()

    def slow(connection: Connection) -> bool:
        count_one(connection)
        written.set()
        return read.wait(60)

    results: list[bool] = []
    writer = threading.Thread(target=lambda: results.append(registry.run(slow)))
    writer.start()
    assert written.wait(60)
    assert enrolled(registry) == 0
    read.set()
    writer.join()
    assert (results, enrolled(registry)) == ([True], 1)


def test_a_serialization_failure_is_repeated(postgres: Postgres, postgres_registry: Registry) -> None:
    registry = postgres_registry
    make_tenant(registry)
    together = threading.Barrier(2)
    attempts: list[int] = []

    def serializable(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        query = select(tenants.c.enrolled).where(tenants.c.name == TENANT)
        count = connection.execute(query).scalar_one()
        if len(attempts) <= 2:
            together.wait(60)  # both have read the same now
        connection.execute(update(tenants).where(tenants.c.name == TENANT).values(enrolled=count + 1))

    assert at_once([lambda: registry.run(serializable)] * 2) == [None, None]
    assert len(attempts) == 3
    assert enrolled(registry) == 2


def test_a_deadlock_is_repeated(postgres_registry: Registry) -> None:
    registry = postgres_registry
    make_tenant(registry, "a")
    make_tenant(registry, "b")
    together = threading.Barrier(2)
    attempts: list[str] = []

    def crossing(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            attempts.append(first)
            count_one(connection, first)
            if len(attempts) <= 2:
                together.wait(60)
            count_one(connection, second)

        return work

    works = [crossing("a", "b"), crossing("b", "a")]
    assert at_once([lambda work=work: registry.run(work) for work in works]) == [None, None]  # type: ignore[misc]
    assert len(attempts) == 3
    assert (enrolled(registry, "a"), enrolled(registry, "b")) == (2, 2)


def test_a_lost_connection_is_repeated(postgres: Postgres, postgres_registry: Registry) -> None:
    registry = postgres_registry
    make_tenant(registry)
    attempts: list[int] = []

    def cut(connection: Connection) -> None:
        attempts.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if len(attempts) == 1:
            postgres.execute(f"SELECT pg_terminate_backend({attempts[0]})")
        count_one(connection)

    registry.run(cut)
    assert len(set(attempts)) == 2
    assert enrolled(registry) == 1


def test_a_database_that_stays_away_is_given_up_with_advice(postgres: Postgres) -> None:
    place = postgres.url("template").replace(f":{postgres.port}", ":1").replace("fededge@", "fededge:secret@")
    with pytest.raises(RegistryError, match="See that the database runs") as refused:
        Registry.open(place, patience=0.2)
    assert "secret" not in str(refused.value)


def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    registry = Registry.open(f"sqlite:///{file}")
    make_tenant(registry)
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ended = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    ended.start()
    registry.run(count_one)
    ended.join()
    assert enrolled(registry) == 1
    other.close()
    registry.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "cannot be read"),
        ("not a url", "cannot be read"),
        ("sqlite://", "would be lost"),
        ("sqlite:///:memory:", "would be lost"),
        ("mongodb://host/name", "no driver"),
        ("cockroachdb://host/name", "no driver"),
        ("sqlite:////proc/none/registry.db", "no folder"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        Registry.open(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(b"something else entirely" * 100)
    with pytest.raises(RegistryError):
        Registry.open(f"sqlite:///{file}")


def test_a_mistake_of_the_code_is_no_registry_error(registry: Registry) -> None:
    make_tenant(registry)
    row = {"name": TENANT, "clients": None, "open_rounds": None, "bytes": None}
    with pytest.raises(IntegrityError):
        registry.run(lambda connection: connection.execute(insert(tenants), row))


def test_rows_that_are_there_are_passed_over_and_not_counted(registry: Registry) -> None:
    row = {"name": "a", "clients": None, "open_rounds": None, "bytes": None}
    assert registry.run(lambda connection: add(connection, tenants, row)) == 1
    assert registry.run(lambda connection: add(connection, tenants, row)) == 0
    many = [{**row, "name": name} for name in "abc"]
    assert registry.run(lambda connection: add(connection, tenants, many)) == 2


def test_each_row_gets_its_own_values(registry: Registry) -> None:
    for name in "abc":
        make_tenant(registry, name)
    rows = [{"name": "a", "clients": 1}, {"name": "c", "clients": 3}, {"name": "none", "clients": 9}]
    registry.run(lambda connection: update_each(connection, tenants, ("name",), rows))
    registry.run(lambda connection: update_each(connection, tenants, ("name",), []))
    query = select(tenants.c.name, tenants.c.clients).order_by(tenants.c.name)
    found = registry.read(lambda connection: connection.execute(query).all())
    assert [tuple(row) for row in found] == [("a", 1), ("b", None), ("c", 3)]


def test_text_that_a_database_does_not_take_is_kept_as_it_can_be(registry: Registry) -> None:
    row = {"name": "a\0b\ud800\nc é 漢 🎲", "clients": None, "open_rounds": None, "bytes": None}
    registry.run(lambda connection: add(connection, tenants, row))
    kept = registry.read(lambda connection: connection.execute(select(tenants.c.name)).scalar_one())
    mark = "\N{REPLACEMENT CHARACTER}"
    assert kept == f"a{mark}b{mark}{mark}c é 漢 🎲"


def test_chunks_hold_everything_once() -> None:
    assert [list(each) for each in chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []


def test_a_large_transaction_is_whole(registry: Registry) -> None:
    rows = [
        {"name": f"t{n:05}", "clients": n, "open_rounds": None, "bytes": None} for n in range(3 * 500 + 1)
    ]
    assert registry.run(lambda connection: add(connection, tenants, rows)) == len(rows)
    total = registry.read(lambda connection: connection.execute(select(func.sum(tenants.c.clients))).scalar())
    assert total == sum(range(len(rows)))
