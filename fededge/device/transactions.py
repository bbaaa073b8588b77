"""Transactions of a client's SQLite files, whose failures are named."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fededge.errors import StorageError


@contextmanager
def transaction(database: sqlite3.Connection, path: Path) -> Iterator[None]:
    """What the block writes into `database`, in the file `path`, is there whole or not at all.

    Raises:
        StorageError: the disk fails or is full.
    """
    with named(path):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name what fails in the file `path`.

    Raises:
        StorageError: the disk fails or is full, or the file is none of SQLite.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"cannot use {path}: {error}. Free space, or check its permissions") from error
