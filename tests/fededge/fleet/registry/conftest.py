"""A registry on PostgreSQL, for what SQLite has no counterpart of."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fededge.fleet.registry.database import Registry
    from tests.postgres import Postgres


@pytest.fixture
def postgres_registry(postgres: "Postgres") -> "Iterator[Registry]":
    """A new, empty registry on PostgreSQL."""
    from fededge.fleet.registry.database import Registry

    postgres.execute("CREATE DATABASE alone TEMPLATE template")
    registry = Registry.open(postgres.url("alone"))
    yield registry
    registry.close()
    postgres.execute("DROP DATABASE alone WITH (FORCE)")
