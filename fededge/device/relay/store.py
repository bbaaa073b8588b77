"""What a relay must not lose, in one SQLite file: readings, labels that came later, and what was refused.

A batch of messages is written in one transaction, synced (WAL, synchronous FULL), before any of them is acknowledged.
A message that is there is recognized by its sensor and id; one older than all that is kept is a repetition, too.

Ages are told in relay seconds, which go by while the machine is on and whatever anybody sets its clock to.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fededge.device.clock import Clock, Moment
from fededge.device.relay.items import Item, Limits, Reading, Refusal
from fededge.device.relay.payload import Reason
from fededge.device.transactions import named, transaction
from fededge.errors import RelayError, StorageError, shown

VERSION = 1
SCHEMA = """
CREATE TABLE groups (name TEXT PRIMARY KEY, form TEXT NOT NULL, labeled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE sensors (
    number INTEGER PRIMARY KEY, grp TEXT NOT NULL, name TEXT NOT NULL, wall REAL NOT NULL, UNIQUE (grp, name)
);
CREATE TABLE streams (
    sensor INTEGER NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL, oldest REAL NOT NULL, floor INTEGER,
    PRIMARY KEY (sensor, kind)
) WITHOUT ROWID;
CREATE TABLE readings (
    sensor INTEGER NOT NULL, id INTEGER NOT NULL, at REAL NOT NULL, time REAL NOT NULL, value BLOB NOT NULL, label REAL,
    PRIMARY KEY (sensor, id)
) WITHOUT ROWID;
CREATE INDEX unlabeled ON readings (sensor, time) WHERE label IS NULL;
CREATE TABLE labels (
    sensor INTEGER NOT NULL, id INTEGER NOT NULL, at REAL NOT NULL, time REAL NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (sensor, id)
) WITHOUT ROWID;
CREATE TABLE refused (
    sensor INTEGER NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (sensor, reason)
) WITHOUT ROWID;
CREATE TABLE clock (only INTEGER PRIMARY KEY CHECK (only = 1), at REAL NOT NULL, boot TEXT NOT NULL, ticks REAL NOT NULL);
"""
ROW_BYTES = 48
"""That a reading takes beside its features, about."""
SLACK = 16
"""Where a limit is passed, a part of so many more is removed, so that it is not passed again at once."""
Kind = Literal["readings", "labels"]


@dataclass(frozen=True)
class _Stream:
    """The messages of a kind that are kept of a sensor; those with ids up to `floor` are not taken (again)."""

    count: int = 0
    oldest: float = 0.0
    floor: int | None = None


@dataclass
class _Sensor:
    number: int
    streams: dict[Kind, _Stream]
    refused: Counter[Reason] = field(default_factory=Counter)
    """Since the last commit."""


class Store:
    """The store in the SQLite file `path`, made where it is missing; one process writes it, a thread at a time.

    Args:
        path: of the file.
        clock: of this machine.
        limits: for each group of sensors.

    Raises:
        StorageError: the disk fails or is full (so does every method); what was written before is there still.
        RelayError: a group's readings were stored with other features.
    """

    def __init__(self, path: Path, clock: Clock, limits: Mapping[str, Limits]) -> None:
        self._path, self._clock, self._limits = path, clock, limits
        with self._named():
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StorageError(f"{path} was written by a newer FedEdge: update FedEdge here")
        with self._transaction():
            if version == 0:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {VERSION}")
            self._adopt_groups()
        path.chmod(0o600)
        self._opened, self._base = clock.now(), 0.0
        if found := self._rows("SELECT at, boot, ticks FROM clock"):
            at, boot, ticks = found[0]
            self._base = at + max(0.0, clock.at_least(Moment(boot, ticks, 0.0)))
        self._labeled: Counter[str] = Counter(dict(self._rows("SELECT name, labeled FROM groups")))
        self._sensors = {
            (group, name): _Sensor(n, {})
            for n, group, name in self._rows("SELECT number, grp, name FROM sensors")
        }
        by_number = {sensor.number: sensor for sensor in self._sensors.values()}
        for number, kind, count, oldest, floor in self._rows("SELECT * FROM streams"):
            by_number[number].streams[kind] = _Stream(count, oldest, floor)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @property
    def sensors(self) -> set[tuple[str, str]]:
        """Group and id of all that were heard of."""
        return {key for key in self._sensors if key[1]}

    @property
    def labeled(self) -> Mapping[str, int]:
        """How many labeled readings ever came, by group."""
        return self._labeled

    def now(self) -> float:
        """Relay seconds."""
        return self._base + self._clock.at_least(self._opened)

    def commit(self, items: Iterable[Item]) -> None:
        """Write a batch, whole or not at all: repetitions are counted, and what passes the limits is removed."""
        at, moment = self.now(), self._clock.now()
        touched: dict[tuple[str, str], _Sensor] = {}
        labeled: Counter[str] = Counter()
        with self._transaction():
            for item in items:
                key = item.group, item.sensor
                sensor = touched.get(key) or touched.setdefault(key, self._copied(key, moment.wall))
                if isinstance(item, Refusal):
                    sensor.refused[item.reason] += 1
                elif isinstance(item, Reading):
                    row = (
                        sensor.number,
                        item.id,
                        at,
                        at if item.time is None else item.time,
                        item.value,
                        item.label,
                    )
                    if self._inserted("readings", row, sensor, item.again) and item.label is not None:
                        labeled[item.group] += 1
                else:
                    time = at if item.time is None else item.time
                    told = (sensor.number, item.id, at, time, item.value)
                    if self._inserted("labels", told, sensor, item.again):
                        labeled[item.group] += self._database.execute(
                            "UPDATE readings SET label = ? "
                            "WHERE sensor = ? AND label IS NULL AND time BETWEEN ? AND ?",
                            (item.value, sensor.number, time - item.within, time),
                        ).rowcount
            for key, sensor in touched.items():
                for kind, stream in sensor.streams.items():
                    if stream.count > self._limits[key[0]].count:
                        sensor.streams[kind] = self._thinned(kind, sensor, self._limits[key[0]].count)
                self._write(sensor, moment.wall)
            self._tick(at, moment)
            for group, count in labeled.items():
                self._database.execute(
                    "UPDATE groups SET labeled = labeled + ? WHERE name = ?", (count, group)
                )
        self._settle(touched)
        self._labeled.update(labeled)

    def prune(self) -> None:
        """Remove what is older than it may be."""
        at, moment = self.now(), self._clock.now()
        touched: dict[tuple[str, str], _Sensor] = {}
        with self._transaction():
            for key, known in self._sensors.items():
                if key[0] not in self._limits:
                    continue
                oldest = at - self._limits[key[0]].seconds
                for kind, stream in known.streams.items():
                    if stream.count and stream.oldest < oldest:
                        sensor = touched.setdefault(key, _Sensor(known.number, dict(known.streams)))
                        upto = oldest + self._limits[key[0]].seconds / SLACK
                        sensor.streams[kind] = self._aged(kind, sensor, upto)
                        self._write(sensor, None)
            self._tick(at, moment)
        self._settle(touched)

    def _adopt_groups(self) -> None:
        known = dict(self._database.execute("SELECT name, form FROM groups").fetchall())
        for name, limits in self._limits.items():
            if known.get(name, limits.form) != limits.form:
                raise RelayError(
                    f"the readings of group {shown(name)} in {self._path} have other features or labels than the relay's "
                    "file says: name the group anew, or remove that file with all readings"
                )
            self._database.execute(
                "INSERT OR IGNORE INTO groups (name, form) VALUES (?, ?)", (name, limits.form)
            )

    def _copied(self, key: tuple[str, str], wall: float) -> _Sensor:
        """A copy of the sensor `key` to be changed, taken up where it is new."""
        if known := self._sensors.get(key):
            return _Sensor(known.number, dict(known.streams))
        found = self._database.execute("INSERT INTO sensors (grp, name, wall) VALUES (?, ?, ?)", (*key, wall))
        assert found.lastrowid is not None
        return _Sensor(found.lastrowid, {})

    def _inserted(self, kind: Kind, row: tuple[object, ...], sensor: _Sensor, again: bool) -> bool:
        """Whether a message was new and is written; a repetition is counted, unless it is the broker's own."""
        stream, id, at = sensor.streams.get(kind, _Stream()), row[1], row[2]
        assert isinstance(id, int)
        assert isinstance(at, float)
        if stream.floor is None or id > stream.floor:
            places = ", ".join("?" * len(row))
            if self._database.execute(f"INSERT OR IGNORE INTO {kind} VALUES ({places})", row).rowcount:
                oldest = stream.oldest if stream.count else at
                sensor.streams[kind] = replace(stream, count=stream.count + 1, oldest=oldest)
                return True
        if not again:
            sensor.refused[Reason.repeated] += 1
        return False

    def _thinned(self, kind: Kind, sensor: _Sensor, limit: int) -> _Stream:
        """The stream with its oldest messages removed, so that it is below `limit`."""
        stream = sensor.streams[kind]
        self._database.execute(
            f"DELETE FROM {kind} WHERE sensor = ? AND id IN "
            f"(SELECT id FROM {kind} WHERE sensor = ? ORDER BY at, id LIMIT ?)",
            (sensor.number, sensor.number, stream.count - max(1, limit - limit // SLACK)),
        )
        return self._counted(kind, sensor, None)

    def _aged(self, kind: Kind, sensor: _Sensor, upto: float) -> _Stream:
        """The stream without what came before `upto`."""
        last = self._database.execute(
            f"SELECT id FROM {kind} WHERE sensor = ? ORDER BY at DESC, id DESC LIMIT 1", (sensor.number,)
        ).fetchone()
        self._database.execute(f"DELETE FROM {kind} WHERE sensor = ? AND at < ?", (sensor.number, upto))
        return self._counted(kind, sensor, last and last[0])

    def _counted(self, kind: Kind, sensor: _Sensor, last: int | None) -> _Stream:
        """The stream as it is in the file. What came before all that is left is not taken again."""
        lowest, oldest, count = self._database.execute(
            f"SELECT min(id), min(at), count(*) FROM {kind} WHERE sensor = ?", (sensor.number,)
        ).fetchone()
        floors = (sensor.streams[kind].floor, last if lowest is None else lowest - 1)
        return _Stream(count, oldest or 0.0, max((f for f in floors if f is not None), default=None))

    def _write(self, sensor: _Sensor, wall: float | None) -> None:
        execute = self._database.execute
        if wall is not None:
            execute("UPDATE sensors SET wall = ? WHERE number = ?", (wall, sensor.number))
        for kind, stream in sensor.streams.items():
            execute(
                "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?)",
                (sensor.number, kind, stream.count, stream.oldest, stream.floor),
            )
        for reason, count in sensor.refused.items():
            execute(
                "INSERT INTO refused VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (sensor.number, reason, count),
            )

    def _tick(self, at: float, moment: Moment) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", (at, moment.boot, moment.ticks)
        )

    def _settle(self, touched: Mapping[tuple[str, str], _Sensor]) -> None:
        """What was committed is so."""
        for key, sensor in touched.items():
            sensor.refused.clear()
            self._sensors[key] = sensor

    def _rows(self, query: str) -> list[tuple]:
        with self._named():
            return self._database.execute(query).fetchall()

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._database, self._path)

    def _named(self) -> AbstractContextManager[None]:
        return named(self._path)
