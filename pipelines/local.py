"""Runs any compiled pipeline on this machine: each image is one of the environments under .venvs.

kfp.local does the orchestration. It has no way to choose another interpreter for a task, so the one
name `kfp.local.subprocess_task_handler.SubprocessTaskHandler` is replaced for the time of a run; that
is all this module changes in kfp (tests/pipelines/test_local_reach.py holds it). The id of the run
takes the place of `{{$.pipeline_job_uuid}}` in the pipeline, so that a repeated run is the same run:
kfp's file cache, kept in the run's folder, then spares it the steps that finished. Steps run in one
order, the same each time. Retries are left to clusters, where pods get lost; here an error would only
come again.
"""

import builtins
import contextlib
import functools
import json
import logging
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import dsl, local
from kfp.components import load_component_from_text
from kfp.local import config, status, subprocess_task_handler

from fededge import errors, settings
from fededge.documents import StepOutcome, Steps
from fededge.errors import FedEdgeError, StorageError
from pipelines import compiled
from pipelines.environments import ENVIRONMENTS, interpreter_folder
from pipelines.step_process import StepProcess

ROOT = Path(__file__).resolve().parents[1]
FULL_DISK = re.compile(r"^OSError: (\[Errno (27|28|122)\] .*|\d+ requested and \d+ written)$", re.MULTILINE)
"""How Python and numpy say that a file cannot grow."""
NAMED_ERROR = re.compile(r"^fededge\.errors\.(\w+): (.*)$", re.MULTILINE)
LAST_LINES = 15


class StepFailed(Exception):
    """A step ended with an error that has no name in fededge.errors; the first line of the message says which."""


def run_local(
    package: str | Path,
    arguments: Mapping[str, Any],
    run: str,
    home: Path,
    *,
    say: Callable[[str], None] | None = None,
    environments: Path = ENVIRONMENTS,
) -> None:
    """Run the compiled pipeline `package` to its end, or to its first failure and then its exit handler.

    Args:
        package: YAML file made by the kfp compiler.
        arguments: the pipeline's arguments.
        run: id of the run: repeated with the same id, it goes on after the steps that finished.
        home: FEDEDGE_HOME of the steps; `<home>/runs/<run>` gets artifacts, cache, logs, steps.json, and
            temporary files in tmp, which is emptied when the run starts and when it ends.
        say: gets a line for each step that starts or ends, and each step's live lines, while standard
            output is redirected to kfp's log; by default they go to what was standard output before.
        environments: folder of the environments that stand for the images.

    Raises:
        EnvironmentMissing: an image has no environment here.
        FedEdgeError: a step ended with this named error; the message names its log.
        StorageError: a file cannot be written.
        DocumentError: steps.json of an earlier try is damaged.
        StepFailed: a step ended with any other error.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; nothing it started is left running.
    """
    text = Path(package).read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(text.replace(dsl.PIPELINE_JOB_ID_PLACEHOLDER, run)))
    for image in compiled.images(documents[0]):
        interpreter_folder(image, environments)
    compiled.drop_retries(documents[0])
    compiled.chain(documents[0])
    pipeline = load_component_from_text(yaml.safe_dump_all(documents))
    say = say or functools.partial(print, file=sys.stdout, flush=True)
    running = _Run(home.resolve() / "runs" / run, home.resolve(), environments, say)
    running.closing = compiled.closing_steps(documents[0])
    try:
        with running.temporary_folder(), _kfp_on_this_machine(running), running.interruptible():
            pipeline(**arguments)
    except (RuntimeError, json_format.Error) as error:
        raise running.failure() or StepFailed(f"{error} See {running.folder / 'logs'}") from error
    except OSError as error:
        raise StorageError(
            f"cannot keep the files of run {run}: {error}. Free space or fix permissions, then run again"
        ) from error


class _Run:
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
        process = StepProcess(_command(command, folder), self._variables(image, variables), log)
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
            "FEDEDGE_STORAGE": settings.storage(home),
            "FEDEDGE_CHECKPOINT_KEY_FILE": own.get("FEDEDGE_CHECKPOINT_KEY_FILE", ""),
            "FEDEDGE_SIGNING_KEY_FILE": str(settings.signing_key_file(home)),
            "MLFLOW_TRACKING_URI": settings.tracking_uri(home),
        }

    def _remember(self, name: str, outcome: StepOutcome) -> None:
        """Note how far a step is."""
        with self._lock:
            self._steps = {**self._steps, name: outcome}
            Steps(steps=self._steps).write(self._steps_file)


@contextlib.contextmanager
def _kfp_on_this_machine(run: _Run) -> Iterator[None]:
    """kfp.local set up for `run`, and afterwards all that it changes in this process put back."""

    class Handler(subprocess_task_handler.SubprocessTaskHandler):
        def run(self) -> status.Status:
            succeeded = run.step(self.image, self.full_command, self.env_vars)
            return status.Status.SUCCESS if succeeded else status.Status.FAILURE

        def validate_image(self, image: str) -> None:
            """Any image that has an environment will do."""

    root = logging.getLogger()
    stock, before = subprocess_task_handler.SubprocessTaskHandler, config.LocalExecutionConfig.instance
    own_print, handlers, level = builtins.print, root.handlers[:], root.level
    (run.folder / "logs").mkdir(parents=True, exist_ok=True)
    subprocess_task_handler.SubprocessTaskHandler = Handler
    try:
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(run.artifacts),
            workspace_root=str(run.folder / "workspace"),
            enable_caching=True,
            cache_root=str(run.folder / "cache"),
        )
        with (
            (run.folder / "logs" / "kfp.log").open("w", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Task .* have no effect in the current local runner")
            yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = stock
        config.LocalExecutionConfig.instance = before
        builtins.print = own_print
        root.handlers[:] = handlers
        root.setLevel(level)


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
