"""A published fleet, and empty registries, for the tests of this floor."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.published_fleet import examples, fleet  # noqa: F401

if TYPE_CHECKING:  # other environments have no driver for PostgreSQL
    from fededge.fleet.registry.database import Registry
    from tests.postgres import Postgres

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """A PostgreSQL server whose database `template` has the registry's tables; skipped where none is installed."""
    from fededge.fleet.registry.database import Registry
    from tests.postgres import Postgres, missing

    why = missing()
    if why is not None:
        pytest.skip(why)
    server = Postgres({"fsync": "off"})
    try:
        server.execute("CREATE DATABASE template")
        Registry.migrate(server.url("template"))
        yield server
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new, empty registry, on each kind of database in turn; SQLite's in memory where it can be, not to wait
    for the disk at each commit."""
    if request.param == "sqlite":
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
            yield f"sqlite:///{folder}/registry.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = f"registry{next(NUMBERS)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def opened(url: str) -> "Iterator[Callable[[], Registry]]":
    """Opens the registry at `url`, once more for each call, as another gateway would."""
    from fededge.fleet.registry.database import Registry

    registries: list[Registry] = []

    def another() -> Registry:
        registries.append(Registry.open(url))
        return registries[-1]

    yield another
    for each in registries:
        each.close()


@pytest.fixture
def registry(opened: "Callable[[], Registry]") -> "Registry":
    """A new, empty registry, on each kind of database in turn."""
    return opened()
