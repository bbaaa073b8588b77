"""Runs on this machine: `<home>/runs/<run id>`, each with what is needed to go on with it.

    run.json        what it runs, since when, and how it ended (fededge.documents.RunRecord)
    task.json       the task
    steps.json      the steps so far, and their artifacts (fededge.documents.Steps)
    pipeline.yaml   the compiled pipeline
    artifacts/  cache/  logs/  tmp/  report.html

A run is locked while it is under way, so that nobody else goes on with it.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fededge import processes, storage
from fededge.documents import RunRecord, Steps
from fededge.documents.run import OUTCOME_LIMIT
from fededge.errors import FedEdgeError, RunError, StorageError, TaskError
from fededge.task import FederatedTask

GLANCE = 0.2
"""Seconds to wait for a run's lock: whoever lists runs holds it for a moment."""
TASK_LIMIT = 1 << 24


@dataclass
class Run:
    """A run on this machine; `record` is what its run.json says."""

    record: RunRecord

    @property
    def id(self) -> str:
        """Its name, also that of its folder."""
        return self.record.id

    def folder(self, home: Path) -> Path:
        """Where the run keeps its files."""
        return home / "runs" / self.id

    def save(self, home: Path, **changes: Any) -> None:
        """Change fields of the record, and write it.

        Raises:
            StorageError: it cannot be written.
        """
        self.record = self.record.model_copy(update=changes)
        self.record.write(self.folder(home) / "run.json")

    def status(self, home: Path) -> str:
        """`running`, `succeeded`, `failed`, `stopped`, or `interrupted`: whoever ran it was killed."""
        if self.record.status != "running":
            return self.record.status
        try:
            with FileLock(self.folder(home) / "lock", blocking=False):
                return "interrupted"
        except (Timeout, OSError):
            return "running"

    def steps(self, home: Path) -> Steps:
        """Its steps so far.

        Raises:
            StorageError: steps.json cannot be read.
            DocumentError: it is damaged.
        """
        file = self.folder(home) / "steps.json"
        return Steps.read(file) if file.exists() else Steps()

    def task(self, home: Path) -> FederatedTask:
        """Its task.

        Raises:
            StorageError: task.json cannot be read.
            TaskError: it is damaged, or of another edition of FedEdge.
        """
        file = self.folder(home) / "task.json"
        data = storage.read(str(file), TASK_LIMIT)
        try:
            return FederatedTask.from_json(data.decode())
        except (TaskError, UnicodeDecodeError) as error:
            raise TaskError(
                f"{file} is damaged, or was written by another edition of FedEdge. Start a new run (`fededge run "
                "--fresh`)"
            ) from error

    def artifact(self, home: Path, step: str, name: str) -> Path | None:
        """File or folder of artifact `name` of the finished step `step`, or None.

        Raises:
            StorageError: steps.json cannot be read.
            DocumentError: it is damaged.
        """
        found = self.steps(home).steps.get(step)
        if found is None or found.status != "succeeded" or name not in found.artifacts:
            return None
        return Path(found.artifacts[name])


def find(home: Path, run_id: str = "") -> tuple[Run, FederatedTask]:
    """The run `run_id` of this machine (by default the latest) and its task.

    Raises:
        RunError: there is none.
        FedEdgeError: its run.json or task.json is damaged.
    """
    run = named(home, run_id)
    return run, run.task(home)


def named(home: Path, run_id: str = "") -> Run:
    """The run `run_id` of this machine, by default the latest.

    Raises:
        RunError: there is none.
        FedEdgeError: its run.json is damaged.
    """
    found, damaged = scan(home)
    for run in found:
        if run_id in ("", run.id):
            return run
    if run_id in damaged:
        raise damaged[run_id]
    raise RunError(
        f"no run {run_id} in {home / 'runs'}: `fededge runs` lists those there are"
        if run_id
        else f"no runs in {home / 'runs'} yet: start one with `fededge run TASK`, or set FEDEDGE_HOME"
    )


def all_runs(home: Path) -> list[Run]:
    """The runs of this machine, latest first; those whose run.json is damaged are passed over."""
    return scan(home)[0]


def scan(home: Path) -> tuple[list[Run], dict[str, FedEdgeError]]:
    """The runs of this machine, latest first; and by the name of their folder those that cannot be read, and why."""
    found: list[Run] = []
    damaged: dict[str, FedEdgeError] = {}
    for file in sorted((home / "runs").glob("*/run.json")):
        try:
            record = RunRecord.read(file)
            if record.id != file.parent.name:
                raise RunError(f"{file} is of run {record.id}: rename its folder, or remove it")
            found.append(Run(record))
        except FedEdgeError as error:
            damaged[file.parent.name] = error
    return sorted(found, key=lambda run: (run.record.started, run.id), reverse=True), damaged


def cancel(home: Path, run_id: str, seconds: float = 30.0) -> None:
    """End the process that runs `run_id`, as Ctrl-C would; the run can be gone on with later.

    Raises:
        RunError: it is not under way, not on this machine, or has not ended after `seconds`.
    """
    run = named(home, run_id)
    status = run.status(home)
    if status != "running":
        raise RunError(f"run {run.id} is not under way: it is {status}")
    try:
        ended = processes.end(run.record.process, seconds)
    except ProcessLookupError as error:
        raise RunError(
            f"run {run.id} is under way, but not as a process that is to be seen from here: cancel it on the "
            "machine or in the container where it was started"
        ) from error
    except PermissionError as error:
        raise RunError(f"run {run.id} belongs to another user: ask them, or cancel it as they") from error
    if not ended:
        raise RunError(
            f"run {run.id} was told to stop and has not yet, after {seconds:g} s: look again later"
        )


@contextlib.contextmanager
def begin(task: FederatedTask, home: Path, fresh: bool = False) -> Iterator[tuple[Run, bool]]:
    """The run to work on, locked, and whether it goes on with an earlier one.

    Goes on with the latest run that is not under way and whose task has the same identity, if it did
    not finish: its operation and delivery become those of `task`. Else, or when `fresh`, starts a new
    one. Its status follows how the block ends.

    Raises:
        StorageError: the run's folder cannot be written.
    """
    resumed = None if fresh else _unfinished(task, home)
    run, lock = resumed or _new(task, home)
    with contextlib.ExitStack() as held:
        held.callback(lock.release)
        storage.write(str(run.folder(home) / "task.json"), task.to_json().encode())
        run.save(home, digest=task.digest, status="running", outcome="", process=processes.mark())
        try:
            yield run, resumed is not None
        except BaseException as error:
            ending = "failed" if isinstance(error, Exception) else "stopped"
            run.save(home, status=ending, outcome=_one_line(error))
            raise
        run.save(home, status="succeeded")


def _unfinished(task: FederatedTask, home: Path) -> tuple[Run, FileLock] | None:
    for run in all_runs(home):
        lock = _lock(run.folder(home)) if run.record.identity == task.identity else None
        if lock:
            if run.record.status != "succeeded":
                return run, lock
            lock.release()
            return None
    return None


def _new(task: FederatedTask, home: Path) -> tuple[Run, FileLock]:
    now = datetime.now(UTC).replace(microsecond=0)
    run_id = f"{task.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    run = Run(
        RunRecord(
            id=run_id,
            task=task.name,
            identity=task.identity,
            digest=task.digest,
            started=now,
            status="running",
        )
    )
    try:
        run.folder(home).mkdir(parents=True)
    except OSError as error:
        raise StorageError(
            f"cannot make {run.folder(home)}: {error}. Free space or fix permissions, or set FEDEDGE_HOME"
        ) from error
    lock = _lock(run.folder(home))
    if lock is None:
        raise StorageError(f"{run.folder(home)} is locked by another process: run again")
    return run, lock


def _lock(folder: Path) -> FileLock | None:
    """The folder's lock, held until it is released, or None where another process holds it.

    Raises:
        StorageError: the folder cannot be written.
    """
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=GLANCE)
    except Timeout:
        return None
    except OSError as error:
        raise StorageError(
            f"cannot lock {folder}: {error}. Fix its permissions, or set FEDEDGE_HOME"
        ) from error
    return lock


def _one_line(error: BaseException) -> str:
    lines = str(error).split("\n")
    text = " ".join(lines[0].split()) or type(error).__name__
    return text if len(text) <= OUTCOME_LIMIT else f"{text[: OUTCOME_LIMIT - 1]}…"
