"""The registry's database: SQLite by default, PostgreSQL in production, and transactions that are repeated when they
have to be.

A function given to `run` may be executed several times, its last execution alone counts, and where a connection broke
while it committed, the whole may count twice: so every function here leaves the same behind when it is repeated.
Each takes the rows that it decides on with a lock, hence it is right at READ COMMITTED, the default of PostgreSQL; at
stricter levels (CockroachDB, YugabyteDB) what would be wrong fails, and is repeated.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    BindParameter,
    Connection,
    Engine,
    Insert,
    Select,
    Table,
    bindparam,
    create_engine,
    event,
    make_url,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)

from fededge.errors import RegistryError, shown
from fededge.fleet.registry import migrations

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Item = TypeVar("Item")

PATIENCE = 60.0
"""Seconds for which a transaction is repeated: longer than a standby needs to take over."""
OPENING = 10.0
"""Seconds for which a database is tried that was not reached yet: a wrong URL is told soon."""
CHUNK = 500
"""Values of one statement: fewer than every database takes."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 2.0
REPEATED = frozenset(
    {
        "40001",  # serialization failure
        "40003",  # nobody knows whether it was carried out
        "40P01",  # deadlock
        "25006",  # the primary became a standby
        "53300",  # too many connections
        "55P03",  # lock not available
        "57P01",  # shut down by an administrator, or crashed
        "57P02",
        "57P03",  # cannot connect yet
    }
)
"""States (SQLSTATE, PostgreSQL: Appendix A) after which a transaction is repeated; those of class 08 besides."""


class Registry:
    """A database that holds the registry, in the version of this code. Safe to use from many threads.

    Attributes:
        embedded: whether it is a file that this process reads itself: SQLite, where whoever reads waits for nobody.
    """

    def __init__(self, engine: Engine, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._reader = engine.execution_options(reads=True)
        self._hasty = engine.execution_options(durable=False)
        self._patience = patience
        self.embedded = engine.dialect.name == "sqlite"
        # One writer at a time: SQLite has no fair queue of its own.
        self._writer = threading.Lock() if self.embedded else nullcontext()

    @classmethod
    def open(cls, url: str, patience: float = PATIENCE) -> "Registry":
        """The registry at `url`. SQLite files are made and migrated here, other databases by `migrate`.

        Args:
            url: such as `sqlite:////var/lib/fededge/registry.db` or `postgresql://USER@HOST/DATABASE`.
            patience: seconds for which a transaction is repeated.

        Raises:
            RegistryError: no such database, it cannot be reached, or it is of another version.
        """
        parsed = _parsed(url)
        registry = cls(_engine(parsed), min(patience, OPENING))
        try:
            if parsed.get_backend_name() == "sqlite":
                registry.run(migrations.upgrade)
            registry.read(lambda connection: migrations.check(connection, _shown(parsed)))
        except BaseException:
            registry.close()
            raise
        registry._patience = patience
        return registry

    @staticmethod
    def migrate(url: str) -> None:
        """Bring the database at `url` to this version; what is there stays.

        Raises:
            RegistryError: it cannot be reached, or is of a newer version.
        """
        registry = Registry(_engine(_parsed(url)), OPENING)
        try:
            registry.run(migrations.upgrade)
        finally:
            registry.close()

    def run(self, work: Callable[[Connection], Result], durable: bool = True) -> Result:
        """What `work` returns, once its transaction is committed.

        Args:
            work: may be called several times.
            durable: whether a power failure must not take it back. Where it may, SQLite does not wait for the disk.

        Raises:
            RegistryError: the database could not be reached for long, or took no transaction.
        """
        with self._writer:
            return self._repeated(work, self._engine if durable else self._hasty)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """As `run`, for work that writes nothing: in SQLite it waits for no writer."""
        return self._repeated(work, self._reader)

    def ping(self) -> None:
        """Ask the database something.

        Raises:
            RegistryError: there is no answer.
        """
        self.read(lambda connection: connection.execute(text("SELECT 1")))

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def _repeated(self, work: Callable[[Connection], Result], engine: Engine) -> Result:
        until = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if isinstance(error, DataError | IntegrityError | ProgrammingError) and not _repeats(error):
                    raise  # a mistake of the code
                if not _repeats(error) or time.monotonic() + pause > until:
                    raise RegistryError(self._explained(error)) from error
                log.info("a transaction is repeated: %s", shown(str(error.orig), 200))
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _explained(self, error: DBAPIError) -> str:
        return (
            f"the registry {_shown(self._engine.url)} failed: {shown(str(error.orig).strip(), 300)}. See that the "
            "database runs, can be reached and has space, then try again"
        )


def locked(query: Select[Any]) -> Select[Any]:
    """`query`, whose rows nobody else changes until the transaction ends."""
    return query.with_for_update(key_share=True)


def add(
    connection: Connection, table: Table, rows: Mapping[str, object] | Sequence[Mapping[str, object]]
) -> int:
    """Insert rows, and pass over those whose key is there; how many were not."""
    return connection.execute(_insert(connection.dialect.name, table), rows).rowcount


@cache
def _insert(dialect: str, table: Table) -> Insert:
    make = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return make(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


def update_each(
    connection: Connection, table: Table, keys: Sequence[str], rows: Sequence[Mapping[str, object]]
) -> None:
    """Update a row of `table` for each of `rows`: the one with its values of the columns `keys` gets its others."""
    if not rows:
        return
    where = [table.c[key] == bindparam(f"key {key}") for key in keys]
    values: dict[str, BindParameter[object]] = {name: bindparam(name) for name in rows[0] if name not in keys}
    connection.execute(
        update(table).where(*where).values(values),
        [{f"key {name}" if name in keys else name: value for name, value in row.items()} for row in rows],
    )


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """`items` in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise RegistryError(
            "the registry's URL cannot be read: write sqlite:////PATH or postgresql://USER@HOST/DATABASE"
        ) from error
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise RegistryError(f"the registry {shown(url)} would be lost: name a file, as sqlite:////PATH")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite(url)
        keeps_alive = {"connect_timeout": 5, "keepalives_idle": 10, "tcp_user_timeout": 15_000}
        arguments = {name: value for name, value in keeps_alive.items() if name not in url.query}
        return create_engine(url, pool_size=16, max_overflow=16, connect_args=arguments)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise RegistryError(
            f"no driver for the registry {_shown(url)} is installed ({error}): use sqlite or postgresql, or install it"
        ) from error


def _sqlite(url: URL) -> Engine:
    try:
        Path(str(url.database)).absolute().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise RegistryError(
            f"no folder for the registry {url.database}: {error.strerror}. Choose one that you may write"
        ) from error
    engine = create_engine(url, pool_size=16, max_overflow=16, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin below, and not when the driver thinks so
        for setting in ("busy_timeout=30000", "journal_mode=WAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("reads", False):
            connection.exec_driver_sql("BEGIN")
            return
        synced = "FULL" if options.get("durable", True) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={synced}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _repeats(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        name = getattr(error.orig, "sqlite_errorname", None)
        if name is not None:
            return str(name).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        return isinstance(error, OperationalError | InterfaceError)  # no connection
    return error.connection_invalidated or state in REPEATED or str(state).startswith("08")


def _shown(url: URL) -> str:
    return shown(url.render_as_string(hide_password=True), 200)
