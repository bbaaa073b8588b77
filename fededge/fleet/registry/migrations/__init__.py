"""Versions of the registry's tables (Alembic): a file a version in `versions`."""

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from fededge.errors import RegistryError

CONNECTION = "connection"
"""Attribute of the configuration by which env.py finds the connection."""


def newest() -> str:
    """The version of this code."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def version(connection: Connection) -> str | None:
    """The version of a database; None where it has no tables yet."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection) -> None:
    """Bring a database to the version of this code, in the transaction of `connection`.

    Raises:
        RegistryError: it is of a newer version.
    """
    there = version(connection)
    if there == newest():
        return
    if there is not None and there not in _known():
        raise RegistryError(f"the registry is of the newer version {there}: update FedEdge")
    config = _config()
    config.attributes[CONNECTION] = connection
    command.upgrade(config, "head")


def check(connection: Connection, name: str) -> None:
    """That a database is of the version of this code.

    Raises:
        RegistryError: it is not.
    """
    there = version(connection)
    if there == newest():
        return
    if there is not None and there not in _known():
        raise RegistryError(f"the registry {name} is of the newer version {there}: update FedEdge")
    raise RegistryError(
        f"the registry {name} is of version {there or 'none'}, and this is {newest()}: run `fededge gateway migrate`"
    )


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "fededge.fleet.registry:migrations")
    return config
