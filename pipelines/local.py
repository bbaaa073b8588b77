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
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import dsl, local
from kfp.components import load_component_from_text
from kfp.local import config, status, subprocess_task_handler

from fededge import errors, settings, storage
from fededge.errors import FedEdgeError, StorageError
from pipelines.environments import ENVIRONMENTS, interpreter_folder
from pipelines.step_process import StepProcess

ROOT = Path(__file__).resolve().parents[1]
FULL_DISK = re.compile(r"^OSError: (\[Errno (27|28|122)\] .*|\d+ requested and \d+ written)$", re.MULTILINE)
"""How Python and numpy say that a file cannot grow."""
NAMED_ERROR = re.compile(r"^fededge\.errors\.(\w+): (.*)$", re.MULTILINE)
LAST_LINES = 15


class StepFailed(Exception):
    """A step ended with an error that has no name in fededge.errors."""


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
        home: FEDEDGE_HOME of the steps; `<home>/runs/<run>` gets artifacts, cache, logs and steps.json.
        say: gets a line for each step that starts or ends, and each step's live lines, while standard
            output is redirected to kfp's log; by default they go to what was standard output before.
        environments: folder of the environments that stand for the images.

    Raises:
        EnvironmentMissing: an image has no environment here.
        FedEdgeError: a step ended with this named error; the message names its log.
        StorageError: a file cannot be written.
        StepFailed: a step ended with any other error.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; nothing it started is left running.
    """
    text = Path(package).read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(text.replace(dsl.PIPELINE_JOB_ID_PLACEHOLDER, run)))
    for image in _images(documents[0]):
        interpreter_folder(image, environments)
    _drop_retries(documents[0])
    _chain(documents[0])
    pipeline = load_component_from_text(yaml.safe_dump_all(documents))
    say = say or functools.partial(print, file=sys.stdout, flush=True)
    running = _Run(home.resolve() / "runs" / run, home.resolve(), environments, say)
    running.closing = _closing_steps(documents[0])
    try:
        with _kfp_on_this_machine(running), running.interruptible():
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
        started = time.monotonic()
        self._say(f"{name} started")
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
        self._say(f"{name} {'finished' if succeeded else 'failed'} after {time.monotonic() - started:.1f} s")
        if succeeded:
            self._remember(name, outputs)
        else:
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
        last = "\n".join(text.rstrip().splitlines()[-LAST_LINES:])
        return StepFailed(f"step {name} failed; its log {log} ends with:\n{last}")

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
            "_KFP_RUNTIME": "true",
            "FEDEDGE_PLATFORM": "local",
            "FEDEDGE_HOME": str(home),
            "FEDEDGE_STORAGE": own.get("FEDEDGE_STORAGE") or f"file://{home / 'storage'}",
            "FEDEDGE_SIGNING_KEY_FILE": own.get("FEDEDGE_SIGNING_KEY_FILE") or str(home / "keys/release.pem"),
            "MLFLOW_TRACKING_URI": own.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
        }

    def _remember(self, name: str, outputs: Mapping[str, Any]) -> None:
        """Note a step's artifacts; one that is all metadata gets a file, which kfp's cache asks for."""
        file = self.folder / "steps.json"
        found = {key: entry["artifacts"][0]["uri"] for key, entry in outputs.get("artifacts", {}).items()}
        for path in map(Path, found.values()):
            if not path.exists():
                path.touch()
        with self._lock:
            known = json.loads(file.read_bytes()) if file.exists() else {}
            storage.write(str(file), json.dumps({**known, name: found}, indent=1).encode())


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
            (run.folder / "logs" / "kfp.log").open("w") as log,
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


def _name(parts: tuple[str, ...]) -> str:
    """The name of a step from its folder below the pipeline's; in a loop its number follows, from 1."""
    numbers = [int(found[1]) + 1 for part in parts if (found := re.search(r"-iteration-(\d+)$", part))]
    return ".".join([parts[-1], *map(str, numbers)])


def _images(spec: Mapping[str, Any]) -> list[str]:
    executors = spec.get("deploymentSpec", {}).get("executors", {}).values()
    return sorted({executor["container"]["image"] for executor in executors if "container" in executor})


def _closing_steps(spec: Mapping[str, Any]) -> set[str]:
    """Steps that wait for the others' end, not for their success: exit handlers above all."""
    return {
        task["componentRef"]["name"].removeprefix("comp-")
        for tasks in _graphs(spec)
        for task in tasks.values()
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
    }


def _graphs(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks, by name, of each graph in a pipeline."""
    nodes = (spec["root"], *spec["components"].values())
    return [node["dag"]["tasks"] for node in nodes if "dag" in node]


def _chain(spec: Mapping[str, Any]) -> None:
    """Let each task of a graph wait for the one before it; kfp.local's order differs from process to process.

    Of the tasks that are ready, the first by name goes first.
    """
    for tasks in _graphs(spec):
        sorter = TopologicalSorter({name: task.get("dependentTasks", ()) for name, task in tasks.items()})
        sorter.prepare()
        ready: list[str] = []
        before: list[str] = []
        while sorter.is_active():
            name, *ready = sorted([*ready, *sorter.get_ready()])
            tasks[name]["dependentTasks"] = sorted({*tasks[name].get("dependentTasks", ()), *before})
            sorter.done(name)
            before = [name]


def _drop_retries(node: Any) -> None:
    if isinstance(node, dict):
        node.pop("retryPolicy", None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _drop_retries(child)
