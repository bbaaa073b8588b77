"""Warm interpreters: what the steps of an environment import is imported once, and each step is a fork of that.

`python3 -m pipelines.warm MODULE...` imports, and then answers requests, a line of JSON each: a step
(arguments, variables, log) by its process id, and the process id of one that ended by its exit status.
It never runs a step itself, so that each step finds everything as imported, and it stays at one thread,
without which a fork would be unsafe: where an import leaves another Python thread behind, it ends, and
steps are started cold. A step ends with its warm interpreter, however that ends.
"""

import ast
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fededge.processes import end_with, ended_with_parent

EXECUTOR = "kfp.dsl.executor_main"
LATER = (
    "mlflow.artifacts",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What the library imports only when it is used, and steps in every environment use."""


class WarmInterpreter:
    """A warm interpreter as seen by who starts steps; it ends with the thread that makes it.

    Args:
        python: the environment's interpreter.
        sources: sources of the components whose imports it makes.
        environment: its environment variables.
        log: file that gets what the imports print.

    Raises:
        EnvironmentMissing: this machine lacks setpriv.
    """

    def __init__(
        self, python: Path, sources: Iterable[str], environment: Mapping[str, str], log: Path
    ) -> None:
        modules = sorted({name for source in sources for name in imported(source)})
        self._lock = threading.Lock()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ended_with_parent([python, "-m", "pipelines.warm", *LATER, *modules]),
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                process_group=0,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> "WarmStep | None":
        """A step started from it; None where it has ended or the command does more than run a component.

        Args:
            command: kfp's command: a shell, `-ec`, its script, the component's source, and arguments.
            folder: gets the component's source.
            environment: all the step's environment variables.
            log: file that its output is added to.
        """
        source = component(command)
        if source is None:
            return None
        file = folder / "ephemeral_component.py"
        file.write_text(source, encoding="utf-8")
        arguments = ["--component_module_path", str(file), *command[4:]]
        pid = self.ask({"arguments": arguments, "environment": dict(environment), "log": str(log)})
        return None if pid is None else WarmStep(self, pid)

    def ask(self, request: Mapping[str, Any]) -> int | None:
        """Its answer to a request; None where it has ended."""
        with self._lock:
            try:
                self._requests.write(json.dumps(request).encode() + b"\n")
                self._requests.flush()
            except BrokenPipeError:
                return None
            answer = self._answers.readline()
        return int(answer) if answer else None

    def close(self) -> None:
        """End it, and with it steps that still run."""
        self._process.kill()
        self._process.communicate()


class WarmStep:
    """A forked step, as `subprocess.Popen` shows a started one."""

    def __init__(self, interpreter: WarmInterpreter, pid: int) -> None:
        self._interpreter = interpreter
        self._descriptor = os.pidfd_open(pid)
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, negative for a signal's number.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(EXECUTOR, timeout or 0.0)
            os.close(self._descriptor)
            status = self._interpreter.ask({"ended": self.pid})
            self.returncode = -signal.SIGKILL if status is None else status
        return self.returncode


def component(command: Sequence[str]) -> str | None:
    """The source in kfp's command for a component; None for a command that does anything else."""
    plain = len(command) > 3 and EXECUTOR in command[2] and "pip install" not in command[2]
    return command[3] if plain else None


def imported(source: str) -> set[str]:
    """Names of modules that Python source imports anywhere; some may be of other things in a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
            found.add(node.module)
    return found


def _import(names: Iterable[str]) -> None:
    """Import what there is; what is missing a step reports better."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)


def _next_step(answers: int) -> dict[str, Any] | None:
    """Answer one request after another: in a fork made for a step that step, else None when there are no more."""
    own = os.getpid()
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            end_with(own)
            return request
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        os.write(answers, b"%d\n" % pid)
    return None


def _become(step: Mapping[str, Any], answers: int) -> None:
    """Be the process that would have been started cold: its files, variables and arguments."""
    os.close(answers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(step["log"], os.O_WRONLY | os.O_APPEND)
    for there, here in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(there, here)
    os.environ.clear()
    os.environ.update(step["environment"])
    sys.argv = [EXECUTOR, *step["arguments"]]


def main() -> None:
    """Answer until there are no more steps; in a fork, run its step."""
    answers = os.dup(1)
    os.dup2(2, 1)
    _import([EXECUTOR, *sys.argv[1:]])
    if threading.active_count() > 1:
        sys.exit("an import started a thread: steps are started cold")
    gc.collect()
    gc.freeze()
    step = _next_step(answers)
    if step is not None:
        _become(step, answers)
        importlib.import_module(EXECUTOR).executor_main()


if __name__ == "__main__":
    main()
