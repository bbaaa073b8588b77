"""The steps of one run on this machine: each a process, with its log, its outcome and its error's name."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from fededge import errors, settings
from fededge.documents import StepOutcome, Steps
from fededge.errors import FedEdgeError, StorageError
from fededge.host.layout import ROOT
from pipelines.environments import interpreter_folder
from pipelines.step_process import Process, StepProcess, start
from pipelines.warm import WarmInterpreter

FULL_DISK = re.compile(r"^OSError: (\[Errno (27|28|122)\] .*|\d+ requested and \d+ written)$", re.MULTILINE)
"""How Python and numpy say that a file cannot grow."""
NAMED_ERROR = re.compile(r"^fededge\.errors\.(\w+): (.*)$", re.MULTILINE)
LAST_LINES = 20


class StepFailed(Exception):
    """A step ended with an error that has no name in fededge.errors; the first line of the message says which."""


class LocalSteps:
    """What the steps of one run share."""

    def __init__(self, folder: Path, home: Path, environments: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.artifacts = folder / "artifacts"
        self._steps_file = folder / "steps.json"
        self._steps = Steps.read(self._steps_file).steps if self._steps_file.exists() else {}
        self.closing: set[str] = set()
        """Steps that run although an earlier one failed."""
        self._home = home
        self._environments = environments
        self._say = say
        self._live: set[StepProcess] = set()
        self._warm: dict[str, WarmInterpreter] = {}
        self._failed: list[tuple[str, Path]] = []
        self._stopping = False
        self._lock = threading.Lock()

    def step(self, image: str, command: list[str], variables: Mapping[str, str]) -> bool:
        """Run one step to its end; whether it succeeded. After a failure, only closing steps start."""
        outputs = json.loads(command[command.index("--executor_input") + 1])["outputs"]
        folder = Path(outputs["outputFile"]).parent
        name = _name(folder.relative_to(self.artifacts).parts[1:])
        if self._stopping or (self._failed and folder.name not in self.closing):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "logs" / f"{name}.log"
        started, begun = datetime.now(UTC), time.monotonic()
        self._say(f"{name} started")
        self._remember(name, StepOutcome(started=started, seconds=0.0, status="running"))
        process = StepProcess(self._start(image, command, folder, variables, log), log)
        self._live.add(process)
        if self._stopping:
            process.stop()
        try:
            succeeded = process.wait(lambda line: self._say(f"{name}: {line}")) == 0
        except KeyboardInterrupt:
            process.wait(lambda line: None)
            raise
        finally:
            self._live.discard(process)
        seconds = time.monotonic() - begun
        self._say(f"{name} {'finished' if succeeded else 'failed'} after {seconds:.1f} s")
        artifacts = _artifacts(outputs) if succeeded else {}
        self._remember(
            name,
            StepOutcome(
                started=started,
                seconds=seconds,
                status="succeeded" if succeeded else "failed",
                artifacts=artifacts,
            ),
        )
        if not succeeded:
            self._failed.append((name, log))
        return succeeded

    def _start(
        self, image: str, command: list[str], folder: Path, variables: Mapping[str, str], log: Path
    ) -> Process:
        """A fork of the image's warm interpreter, or where there is none, a process started cold."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        environment = self._variables(image, variables)
        warm = self._warm.get(image)
        forked = warm and warm.start(command, folder, environment, log)
        return forked or start(_command(command, folder), environment, log)

    def failure(self) -> Exception | None:
        """The error of the step that failed first, by its name where its log tells one."""
        if not self._failed:
            return None
        name, log = self._failed[0]
        text = log.read_text(encoding="utf-8", errors="replace")
        for kind, message in reversed(NAMED_ERROR.findall(text)):
            error = getattr(errors, kind, None)
            if isinstance(error, type) and issubclass(error, FedEdgeError):
                return error(f"{message} (step {name}, log {log})")
        full = FULL_DISK.search(text)
        if full:
            return StorageError(
                f"step {name} cannot write its files: {full[1]}. Free space, then run again (log {log})"
            )
        last = text.rstrip().splitlines()[-LAST_LINES:] or ["(no output)"]
        end = "\n".join(last)
        return StepFailed(f"step {name} failed: {last[-1].strip()}\nIts log {log} ends with:\n{end}")

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[None]:
        """An empty folder for the steps' temporary files, emptied again: a killed step cannot clean up."""
        _empty(self.folder / "tmp")
        try:
            yield
        finally:
            _empty(self.folder / "tmp")

    @contextlib.contextmanager
    def warm_interpreters(self, components: Mapping[str, list[str]]) -> Iterator[None]:
        """Warm interpreters for the images with more than one component, given the sources of those."""
        with contextlib.ExitStack() as closing:
            for image, sources in components.items():
                if len(sources) > 1:
                    python = interpreter_folder(image, self._environments) / "python3"
                    warm = WarmInterpreter(
                        python, sources, self._variables(image, {}), self.folder / "tmp" / "warm.log"
                    )
                    closing.callback(warm.close)
                    self._warm[image] = warm
            yield

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """End all steps on SIGINT and SIGTERM, and whenever the block ends."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop()
            raise KeyboardInterrupt

        main = threading.current_thread() is threading.main_thread()
        before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)} if main else {}
        try:
            yield
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self) -> None:
        self._stopping = True
        for process in list(self._live):
            process.stop()

    def _variables(self, image: str, variables: Mapping[str, str]) -> dict[str, str]:
        """The environment of a step: this machine's, the pipeline's, and FedEdge's local settings."""
        own, home = os.environ, self._home
        interpreter = interpreter_folder(image, self._environments)
        python_path = [str(ROOT), *filter(None, [own.get("PYTHONPATH")])]
        return {
            **own,
            **settings.without_proxy(own),
            **variables,
            "PATH": os.pathsep.join([str(interpreter), own.get("PATH", os.defpath)]),
            "VIRTUAL_ENV": str(interpreter.parent),
            "PYTHONPATH": os.pathsep.join(python_path),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
            "TMPDIR": str(self.folder / "tmp"),
            "_KFP_RUNTIME": "true",
            "FEDEDGE_PLATFORM": "local",
            "FEDEDGE_HOME": str(home),
            "FEDEDGE_RUN": self.folder.name,
            "FEDEDGE_STORAGE": settings.storage(home),
            "FEDEDGE_CHECKPOINT_KEY_FILE": own.get("FEDEDGE_CHECKPOINT_KEY_FILE", ""),
            "FEDEDGE_FUNCTIONS_TOKEN_FILE": own.get("FEDEDGE_FUNCTIONS_TOKEN_FILE", ""),
            "FEDEDGE_GATEWAY_TOKEN_FILE": own.get("FEDEDGE_GATEWAY_TOKEN_FILE", ""),
            "FEDEDGE_SIGNING_KEY_FILE": str(settings.signing_key_file(home)),
            "MLFLOW_TRACKING_URI": settings.tracking_uri(home),
        }

    def _remember(self, name: str, outcome: StepOutcome) -> None:
        """Note how far a step is."""
        with self._lock:
            self._steps = {**self._steps, name: outcome}
            Steps(steps=self._steps).write(self._steps_file)


def _command(command: list[str], folder: Path) -> list[str]:
    """kfp's command with the component's source kept in `folder`, and no shell left around Python.

    So a signal to the step's process reaches Python itself, and no temporary folder is left behind.
    """
    return [
        part.replace("$(mktemp -d)", shlex.quote(str(folder))).replace(
            "python3 -m kfp.dsl.executor_main", "exec python3 -m kfp.dsl.executor_main"
        )
        if "$program_path" in part
        else part
        for part in command
    ]


def _artifacts(outputs: Mapping[str, Any]) -> dict[str, str]:
    """Paths of a step's artifacts; one that is all metadata gets a file, which kfp's cache asks for."""
    found = {key: str(entry["artifacts"][0]["uri"]) for key, entry in outputs.get("artifacts", {}).items()}
    for path in map(Path, found.values()):
        if not path.exists():
            path.touch()
    return found


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _name(parts: tuple[str, ...]) -> str:
    """The name of a step from its folder below the pipeline's; in a loop its number follows, from 1."""
    numbers = [int(found[1]) + 1 for part in parts if (found := re.search(r"-iteration-(\d+)$", part))]
    return ".".join([parts[-1], *map(str, numbers)])
