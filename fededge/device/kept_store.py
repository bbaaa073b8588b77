"""A client's store as it was before a new program first opened it, for when that is gone back from.

    <folder>/store.db           the store (fededge.device.store)
    <folder>/program/store.db   the copy

Part of what the launcher needs: the standard library alone.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from fededge import storage
from fededge.errors import StorageError


def keep(folder: Path) -> None:
    """Copy the store, before another program opens it.

    Raises:
        StorageError: it cannot be copied.
    """
    kept = _kept_store(folder)
    try:
        kept.unlink(missing_ok=True)
        kept.touch(0o600)
        with closing(sqlite3.connect(_store(folder))) as source, closing(sqlite3.connect(kept)) as target:
            source.backup(target)
        storage.sync_folder(kept.parent)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"cannot copy {_store(folder)} to {kept}: {error}. Free space") from error


def restore(folder: Path) -> None:
    """Undo what a program, which never had a session, made of the store's form: the one before cannot read it."""
    store, kept = _store(folder), _kept_store(folder)
    if kept.exists() and _form(kept) != _form(store):
        for file in ("store.db-wal", "store.db-shm"):
            (folder / file).unlink(missing_ok=True)
        os.replace(kept, store)
        storage.sync_folder(folder)


def _form(store: Path) -> int | None:
    """The version of a store's form; None where it has none."""
    try:
        with closing(sqlite3.connect(store)) as database:
            return int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        return None


def _store(folder: Path) -> Path:
    return folder / "store.db"


def _kept_store(folder: Path) -> Path:
    return folder / "program" / "store.db"
