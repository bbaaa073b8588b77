"""Runs on this machine: `<home>/runs/<run id>`, each with what is needed to go on with it.

    run.json        what it runs, since when, and how it ended
    task.json       the task
    steps.json      artifacts of each finished step
    pipeline.yaml   the compiled pipeline
    artifacts/  cache/  logs/  report.html

A run is locked while it is under way, so that nobody else goes on with it.
"""

import contextlib
import fcntl
import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fededge import storage
from fededge.errors import StorageError
from fededge.task import FederatedTask

UNFINISHED = ("running", "failed", "stopped")


@dataclass
class Run:
    """A run on this machine.

    Attributes:
        id: its name, also that of its folder.
        task: name of the task.
        digest: digest of the task.
        started: ISO 8601, UTC.
        status: running, succeeded, failed or stopped.
        outcome: what came of it, in a few words.
    """

    id: str
    task: str
    digest: str
    started: str
    status: str = "running"
    outcome: str = ""

    def folder(self, home: Path) -> Path:
        """Where the run keeps its files."""
        return home / "runs" / self.id

    def save(self, home: Path) -> None:
        """Write run.json."""
        storage.write(str(self.folder(home) / "run.json"), json.dumps(asdict(self), indent=1).encode())

    def artifact(self, home: Path, step: str, name: str) -> Path | None:
        """File or folder of artifact `name` of the finished step `step`, or None."""
        steps = self.folder(home) / "steps.json"
        content = json.loads(steps.read_bytes()) if steps.exists() else {}
        path = content.get(step, {}).get(name)
        return Path(path) if path else None


def find(home: Path, run_id: str = "") -> tuple[Run, FederatedTask]:
    """The run `run_id` of this machine (by default the latest) and its task.

    Raises:
        StorageError: there is none.
    """
    for run in all_runs(home):
        if run_id in ("", run.id):
            text = storage.read(str(run.folder(home) / "task.json")).decode()
            return run, FederatedTask.from_json(text)
    raise StorageError(
        f"no run {run_id} in {home / 'runs'}: `fededge runs` lists those there are"
        if run_id
        else f"no runs in {home / 'runs'} yet: start one with `fededge run TASK`, or set FEDEDGE_HOME"
    )


def all_runs(home: Path) -> list[Run]:
    """The runs of this machine, latest first; a run.json of another form is passed over."""
    found = []
    for file in (home / "runs").glob("*/run.json"):
        with contextlib.suppress(ValueError, TypeError):
            found.append(Run(**json.loads(file.read_bytes())))
    return sorted(found, key=lambda run: (run.started, run.id), reverse=True)


@contextlib.contextmanager
def begin(task: FederatedTask, home: Path, fresh: bool = False) -> Iterator[tuple[Run, bool]]:
    """The run to work on, locked, and whether it goes on with an earlier one.

    Goes on with the latest run of the same task that is not under way, if it did not finish; else, or
    when `fresh`, starts a new one. Its status follows how the block ends.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    resumed = None if fresh else _unfinished(task, home)
    run, lock = resumed or _new(task, home)
    with lock:
        run.status = "running"
        run.save(home)
        try:
            yield run, resumed is not None
        except BaseException as error:
            run.status = "failed" if isinstance(error, Exception) else "stopped"
            run.outcome = " ".join(str(error).split())
            run.save(home)
            raise
        run.status = "succeeded"
        run.save(home)


def _unfinished(task: FederatedTask, home: Path) -> tuple[Run, IO[bytes]] | None:
    for run in all_runs(home):
        lock = _lock(run.folder(home)) if run.digest == task.digest else None
        if lock:
            if run.status in UNFINISHED:
                return run, lock
            lock.close()
            return None
    return None


def _new(task: FederatedTask, home: Path) -> tuple[Run, IO[bytes]]:
    now = datetime.now(UTC)
    run_id = f"{task.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    run = Run(run_id, task.name, task.digest, now.isoformat(timespec="seconds"))
    try:
        run.folder(home).mkdir(parents=True)
    except OSError as error:
        raise StorageError(
            f"cannot make {run.folder(home)}: {error}. Free space or fix permissions, or set FEDEDGE_HOME"
        ) from error
    lock = _lock(run.folder(home))
    if lock is None:
        raise StorageError(f"{run.folder(home)} is locked by another process: run again")
    storage.write(str(run.folder(home) / "task.json"), task.to_json().encode())
    return run, lock


def _lock(folder: Path) -> IO[bytes] | None:
    """The folder's lock, held until it is closed, or None where another process holds it."""
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
