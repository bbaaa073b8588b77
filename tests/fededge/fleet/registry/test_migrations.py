"""A database is of this code's version, or it is not worked with."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from fededge.errors import RegistryError
from fededge.fleet.registry import migrations
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata
from tests.postgres import Postgres
from tests.registries import at_once


def test_a_migrated_database_has_the_tables_of_the_code(registry: Registry) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert registry.read(differences) == []


def test_a_migrated_database_has_the_indexes_of_the_code(registry: Registry) -> None:
    def names(connection: Connection) -> set[str]:
        inspector = inspect(connection)
        return {str(index["name"]) for table in metadata.tables for index in inspector.get_indexes(table)}

    wanted = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    assert wanted <= registry.read(names)


def test_sqlite_migrates_itself_and_keeps_what_is_there(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    for _ in range(2):
        registry = Registry.open(url)
        assert registry.read(migrations.version) == migrations.newest()
        registry.close()
    Registry.migrate(url)


def test_many_that_open_a_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    for registry in at_once([lambda: Registry.open(url)] * 4):
        assert isinstance(registry, Registry), registry
        registry.close()


def test_postgresql_is_migrated_only_when_somebody_says_so(postgres: Postgres) -> None:
    postgres.execute("CREATE DATABASE bare")
    try:
        with pytest.raises(RegistryError, match="run `fededge gateway migrate`"):
            Registry.open(postgres.url("bare"))
        for _ in range(2):
            Registry.migrate(postgres.url("bare"))
        Registry.open(postgres.url("bare")).close()
    finally:
        postgres.execute("DROP DATABASE bare WITH (FORCE)")


def test_a_newer_database_is_left_alone(url: str, registry: Registry) -> None:
    newer = text("UPDATE alembic_version SET version_num = 'from the future'")
    registry.run(lambda connection: connection.execute(newer))
    with pytest.raises(RegistryError, match="newer version from the future: update FedEdge"):
        Registry.open(url)
    with pytest.raises(RegistryError, match="newer version"):
        Registry.migrate(url)


def test_the_migrations_are_packages_and_so_in_the_wheel() -> None:
    folder = Path(migrations.__file__).parent
    assert (folder / "versions" / "version_1.py").exists()
    assert all((each / "__init__.py").exists() for each in (folder, folder / "versions"))
