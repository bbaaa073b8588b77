"""What a client's store (fededge.device.store) tells of the past, for who only looks and changes nothing."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fededge.device.store import VERSION
from fededge.errors import StorageError
from fededge.protocol import Running


@dataclass(frozen=True)
class Remembered:
    """A round that this client took part in; `outcome`: what the gateway said in the end, or how far it is."""

    round: str
    task: str
    kind: str
    number: int
    rule: str
    at: float
    outcome: str


def remembered(path: Path, most: int) -> list[Remembered]:
    """The last rounds in the store `path`, the last one first, without changing it; for who only looks.

    Raises:
        StorageError: it cannot be read.
    """
    query = f"SELECT round, task, kind, number, rule, wall, outcome FROM rounds ORDER BY rowid DESC LIMIT {most:d}"
    return [Remembered(*row) for row in _seen(path, query)]


def check_form(path: Path) -> None:
    """Check that this FedEdge reads the store `path`.

    Raises:
        StorageError: it cannot be read, or was written by a newer one.
    """
    if _seen(path, "PRAGMA user_version")[0][0] > VERSION:
        raise StorageError(f"{path} was written by a newer FedEdge: update FedEdge here")


def last_released(path: Path) -> list[Running]:
    """What ran last of each task by the store `path`; as `remembered`."""
    query = "SELECT running FROM released ORDER BY task"
    return [Running.model_validate_json(row[0]) for row in _seen(path, query)]


def _seen(path: Path, query: str) -> list[Any]:
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise StorageError(f"cannot read {path}: {error}. Check its permissions") from error
