"""Looks into a relay's store without changing it, beside the one that writes it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fededge.errors import StorageError

STORE = "relay.db"
"""The store in a relay's folder."""


@dataclass(frozen=True)
class Sensor:
    """A sensor as far as it is known.

    Attributes:
        name: empty for what was nobody's that is known.
        readings: that are kept.
        seen: when its last message came, in seconds since the epoch, as the machine believed.
        refused: how many messages were, by reason.
    """

    group: str
    name: str
    readings: int
    seen: float
    refused: dict[str, int]


@dataclass(frozen=True)
class Stored:
    """A reading: whose it is, its id, its features (float32) and its label, where it has one."""

    sensor: str
    id: int
    value: bytes
    label: float | None


class Reader:
    """A view of the store `path`, for one thread.

    Every method raises StorageError where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._named():
            self._database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read in this block is of one moment."""
        with self._named():
            self._database.execute("BEGIN")
            try:
                yield
            finally:
                self._database.execute("ROLLBACK")

    def sensors(self) -> list[Sensor]:
        """All that were heard of, by group and name."""
        with self._named():
            rows = self._database.execute(
                "SELECT number, grp, name, coalesce(count, 0), wall FROM sensors "
                "LEFT JOIN streams ON sensor = number AND kind = 'readings' ORDER BY grp, name"
            ).fetchall()
            refused: dict[int, dict[str, int]] = {}
            for number, reason, count in self._database.execute("SELECT * FROM refused ORDER BY reason"):
                refused.setdefault(number, {})[reason] = count
        return [Sensor(group, name, count, wall, refused.get(n, {})) for n, group, name, count, wall in rows]

    def labeled(self, group: str) -> int:
        """How many labeled readings of `group` ever came."""
        with self._named():
            found = self._database.execute("SELECT labeled FROM groups WHERE name = ?", (group,)).fetchone()
        return found[0] if found else 0

    def newest(self, group: str, sensor: str, most: int) -> list[Stored]:
        """The last readings of a sensor by their ids, at most so many, the last one first."""
        with self._named():
            rows = self._database.execute(
                "SELECT name, id, value, label FROM readings JOIN sensors ON number = sensor "
                "WHERE grp = ? AND name = ? ORDER BY id DESC LIMIT ?",
                (group, sensor, most),
            ).fetchall()
        return [Stored(*row) for row in rows]

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"cannot read {self._path}: {error}. Check its permissions") from error
