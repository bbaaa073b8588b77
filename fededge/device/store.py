"""What a client must not forget, in one SQLite file: assignments and what came of them, rounds and releases that it
knows, and what did harm here.

    accepted --result written--> finished --report received--> gone

Each step is written, synced, before it is relied on, so a power failure at any moment loses nothing: work that was
accepted goes on, and a result is kept until the gateway said that it has it.
"""

import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from fededge.device.clock import Moment
from fededge.device.transactions import named, transaction
from fededge.errors import StorageError
from fededge.protocol import Assignment, Order, ReportMessage, Running

KEPT = 10_000
"""Rounds of a signer that are remembered one by one; of older ones, only when the last of them was issued."""
SCHEMAS = (
    """
CREATE TABLE assignments (
    id TEXT PRIMARY KEY, round TEXT NOT NULL UNIQUE, assignment TEXT NOT NULL, phase TEXT NOT NULL, report TEXT
);
CREATE TABLE rounds (
    round TEXT PRIMARY KEY, signer TEXT NOT NULL, issued REAL NOT NULL, rule TEXT NOT NULL, task TEXT NOT NULL,
    kind TEXT NOT NULL, number INTEGER NOT NULL, boot TEXT NOT NULL, ticks REAL NOT NULL, wall REAL NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0, outcome TEXT NOT NULL
);
CREATE INDEX rounds_by_signer ON rounds (signer, issued);
CREATE INDEX rounds_by_rule ON rounds (rule);
CREATE TABLE floors (signer TEXT PRIMARY KEY, issued REAL NOT NULL);
CREATE TABLE session (only INTEGER PRIMARY KEY CHECK (only = 1), id TEXT NOT NULL);
""",
    """
CREATE TABLE learned (dataset TEXT PRIMARY KEY, examples INTEGER NOT NULL);
CREATE TABLE mishaps (digest TEXT PRIMARY KEY, times INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE released (
    task TEXT NOT NULL, signer TEXT NOT NULL, issued REAL NOT NULL, manifest TEXT NOT NULL, running TEXT NOT NULL,
    PRIMARY KEY (task, signer)
);
""",
    "ALTER TABLE assignments DROP COLUMN phase;",
)
"""What each version changes of the one before."""
VERSION = len(SCHEMAS)


@dataclass(frozen=True)
class Held:
    """An assignment that this client accepted.

    Attributes:
        accepted: when.
        report: what came of it, once the work is done.
    """

    assignment: Assignment
    round: str
    accepted: Moment
    report: ReportMessage | None = None


@dataclass(frozen=True)
class Released:
    """A release that ran here: when it was issued, the digest of its manifest, and how it did."""

    issued: float
    manifest: str
    running: Running


class Store:
    """The store in the SQLite file `path`, made where it is missing; one process writes it.

    Every method raises StorageError where the disk fails or is full; what was written before is there still.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._named():
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            path.chmod(0o600)
            if version < VERSION:
                with self._transaction():
                    for statement in filter(str.strip, "".join(SCHEMAS[version:]).split(";")):
                        self._database.execute(statement)
                    self._database.execute(f"PRAGMA user_version = {VERSION}")
        if version > VERSION:
            raise StorageError(f"{path} was written by a newer FedEdge: update FedEdge here")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def session(self) -> str | None:
        """Id of the last session at a gateway."""
        with self._named():
            found = self._database.execute("SELECT id FROM session").fetchone()
        return found[0] if found else None

    def set_session(self, session: str) -> None:
        """Remember it."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO session VALUES (1, ?)", (session,))

    def accept(self, assignment: Assignment, order: Order, signer: str, rule: str, now: Moment) -> None:
        """Take an assignment on.

        Args:
            assignment: as it was sent.
            order: what it orders, proven.
            signer: id of the key that signed it.
            rule: of the policy, by its name, that allows it.
            now: the moment from which its time is counted.
        """
        with self._transaction():
            self._database.execute(
                "INSERT INTO assignments VALUES (?, ?, ?, NULL)",
                (assignment.id, order.round_id, assignment.model_dump_json()),
            )
            self._database.execute(
                "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 'accepted')",
                (
                    *(order.round_id, signer, order.issued, rule, order.task, order.kind, order.number),
                    *(now.boot, now.ticks, now.wall),
                ),
            )
            self._forget_old(signer)

    def renew(self, assignment: Assignment) -> None:
        """Take the URLs of an assignment that is held, and was sent again."""
        with self._transaction():
            self._database.execute(
                "UPDATE assignments SET assignment = ? WHERE id = ?",
                (assignment.model_dump_json(), assignment.id),
            )

    def held(self) -> list[Held]:
        """The assignments that are not done, in the order in which they were accepted."""
        with self._named():
            rows = self._database.execute(
                "SELECT assignment, round, boot, ticks, wall, report FROM assignments "
                "JOIN rounds USING (round) ORDER BY rounds.rowid"
            ).fetchall()
        return [
            Held(
                Assignment.model_validate_json(assignment),
                round,
                Moment(boot, ticks, wall),
                ReportMessage.model_validate_json(report) if report else None,
            )
            for assignment, round, boot, ticks, wall, report in rows
        ]

    def finish(self, report: ReportMessage, learned: tuple[str, int] | None = None) -> None:
        """The work is done, its update written: from now on this round is never worked on again.

        Args:
            report: what came of it.
            learned: dataset that was learned from, and how many examples it had.
        """
        with self._transaction():
            self._database.execute(
                "UPDATE assignments SET report = ? WHERE id = ?",
                (report.model_dump_json(exclude_none=True), report.assignment),
            )
            self._database.execute(
                "UPDATE rounds SET spent = 1, outcome = ? "
                "WHERE round = (SELECT round FROM assignments WHERE id = ?)",
                ("failed" if report.failure else "finished", report.assignment),
            )
            if learned is not None:
                self._database.execute("INSERT OR REPLACE INTO learned VALUES (?, ?)", learned)

    def learned(self, dataset: str) -> int:
        """How many examples a dataset had when it was last learned from; 0 before that."""
        with self._named():
            found = self._database.execute(
                "SELECT examples FROM learned WHERE dataset = ?", (dataset,)
            ).fetchone()
        return int(found[0]) if found else 0

    def note_mishap(self, digest: str, reason: str) -> None:
        """A model or plan of this digest hung, crashed or did otherwise harm."""
        with self._transaction():
            self._database.execute(
                "INSERT INTO mishaps VALUES (?, 1, ?) "
                "ON CONFLICT (digest) DO UPDATE SET times = times + 1, reason = excluded.reason",
                (digest, reason),
            )

    def mishaps(self, digest: str) -> tuple[int, str]:
        """How often that was so, and what it was the last time."""
        with self._named():
            found = self._database.execute(
                "SELECT times, reason FROM mishaps WHERE digest = ?", (digest,)
            ).fetchone()
        return (int(found[0]), str(found[1])) if found else (0, "")

    def installed(self, signer: str, issued: float, manifest: str, running: Running) -> None:
        """A release of a task runs here; from now on none that its signer issued earlier is taken."""
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO released VALUES (?, ?, ?, ?, ?)",
                (running.task, signer, issued, manifest, running.model_dump_json()),
            )

    def released(self, task: str, signer: str) -> Released | None:
        """The last release of a task that ran here."""
        with self._named():
            found = self._database.execute(
                "SELECT issued, manifest, running FROM released WHERE task = ? AND signer = ?", (task, signer)
            ).fetchone()
        return Released(found[0], found[1], Running.model_validate_json(found[2])) if found else None

    def drop(self, assignment: str, outcome: str) -> None:
        """Nothing more is to be done about it; `outcome` says why."""
        with self._transaction():
            self._database.execute(
                "UPDATE rounds SET outcome = ? WHERE round = (SELECT round FROM assignments WHERE id = ?)",
                (outcome, assignment),
            )
            self._database.execute("DELETE FROM assignments WHERE id = ?", (assignment,))

    def knows(self, round: str, signer: str, issued: float) -> bool:
        """Whether the work of a round was done here, or may have been so long ago that it is not remembered."""
        with self._named():
            found = self._database.execute("SELECT spent FROM rounds WHERE round = ?", (round,)).fetchone()
            floor = self._database.execute("SELECT issued FROM floors WHERE signer = ?", (signer,)).fetchone()
        return bool(found[0]) if found else floor is not None and issued <= floor[0]

    def accepted_by(self, rule: str, most: int) -> list[Moment]:
        """When the last assignments were accepted by a rule, at most so many, the last one first."""
        with self._named():
            rows = self._database.execute(
                "SELECT boot, ticks, wall FROM rounds WHERE rule = ? ORDER BY rowid DESC LIMIT ?",
                (rule, most),
            ).fetchall()
        return [Moment(*row) for row in rows]

    def _forget_old(self, signer: str) -> None:
        """Keep the KEPT rounds of a signer that were issued last, and of the others the time of the last."""
        old = self._database.execute(
            "SELECT round, issued FROM rounds WHERE signer = ? AND round NOT IN (SELECT round FROM assignments) "
            "ORDER BY issued DESC LIMIT -1 OFFSET ?",
            (signer, KEPT),
        ).fetchall()
        if old:
            self._database.execute(
                "INSERT INTO floors VALUES (?, ?) "
                "ON CONFLICT (signer) DO UPDATE SET issued = max(issued, excluded.issued)",
                (signer, old[0][1]),
            )
            self._database.executemany("DELETE FROM rounds WHERE round = ?", [(round,) for round, _ in old])

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._database, self._path)

    def _named(self) -> AbstractContextManager[None]:
        return named(self._path)
