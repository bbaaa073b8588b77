"""The runs that triggers start: each once, here or on Kubeflow, and looked after until it ends.

A run of this machine is a process that ends with the gateway. Its folder `<home>/triggers/<start>` holds the task, the
log and the mark of the process, so that a gateway that starts again knows what became of it.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fededge import processes, storage
from fededge.errors import FedEdgeError, KubeflowError
from fededge.fleet.functions import triggering
from fededge.fleet.functions.triggering import Start
from fededge.fleet.registry.database import Registry
from fededge.task import FederatedTask
from pipelines.federated_training.pipeline import compile_to
from pipelines.kubeflow import Kubeflow

LOOK_SECONDS = 1.0
ASK_SECONDS = 30.0
"""Between two questions to Kubeflow about a run."""
LIMIT = 1 << 20


class Triggered:
    """Starts what is due in `registry`.

    Args:
        registry: of the gateway.
        home: FEDEDGE_HOME of runs on this machine.
        say: gets a line for each start and end.
        kubeflow: makes the connection to Kubeflow when it is needed.
    """

    def __init__(
        self,
        registry: Registry,
        home: Path,
        say: Callable[[str], None],
        kubeflow: Callable[[], Kubeflow] = Kubeflow,
    ) -> None:
        self._registry = registry
        self._home = home.resolve()
        self._say = say
        self._connect = kubeflow
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._asked: dict[str, float] = {}

    def serve(self, ending: threading.Event) -> None:
        """Look again and again until `ending` is set, then end the runs of this machine."""
        try:
            while not ending.wait(LOOK_SECONDS):
                try:
                    self.look(time.time())
                except FedEdgeError as error:
                    self._say(f"triggers: {error}")
        finally:
            for process in self._processes.values():
                process.terminate()
                process.wait()

    def look(self, now: float) -> None:
        """Note what ended, and start what is due.

        Args:
            now: seconds since the epoch.

        Raises:
            RegistryError: the registry cannot be asked.
        """
        for tenant, name, start, run in triggering.running(self._registry):
            ended = self._ended_here(start) if run == start else self._ended_there(run, now)
            if ended is not None:
                triggering.ended(self._registry, tenant, name, start, ended, now)
                self._say(f"trigger {name} of {tenant}: {run} {ended}")
        for due in triggering.due(self._registry, now):
            try:
                run = self._start_here(due) if due.target == "local" else self._start_there(due)
            except FedEdgeError as error:
                triggering.ended(self._registry, due.tenant, due.name, due.start, str(error), now)
                self._say(f"trigger {due.name} of {due.tenant} did not start: {error}")
            else:
                triggering.started(self._registry, due.tenant, due.name, due.start, run, now)
                self._say(f"trigger {due.name} of {due.tenant} started {run}")

    def _start_here(self, due: Start) -> str:
        """The start itself names the run; one that was claimed again goes on with what it began."""
        folder = self._home / "triggers" / due.start
        fresh = [] if folder.exists() else ["--fresh"]
        storage.write(str(folder / "task.yaml"), FederatedTask.from_json(due.task).to_json().encode())
        command = [sys.executable, "-m", "fededge", "run", str(folder / "task.yaml"), *fresh]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                processes.ended_with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        storage.write(str(folder / "process"), processes.mark(process.pid).encode())
        self._processes[due.start] = process
        return due.start

    def _ended_here(self, start: str) -> str | None:
        """What became of a run on this machine; None while it goes on, or where it is another machine's."""
        folder = self._home / "triggers" / start
        process = self._processes.get(start)
        if process is not None:
            if process.poll() is None:
                return None
            del self._processes[start]
            status = process.returncode
            return "succeeded" if status == 0 else f"failed with status {status}: see {folder / 'log'}"
        if not (folder / "process").exists():
            return None
        mark = storage.read(str(folder / "process"), LIMIT).decode()
        alive = mark != "" and processes.mark(int(mark.split()[2])) == mark
        return None if alive else f"ended with its gateway: see {folder / 'log'}"

    def _start_there(self, due: Start) -> str:
        """The run's id on Kubeflow, where it has the name of the start."""
        kubeflow = self._connect()
        found = kubeflow.named(due.start)
        if found is not None:
            return found
        task = FederatedTask.from_json(due.task)
        with tempfile.TemporaryDirectory(prefix="fededge-trigger-") as folder:
            package = Path(folder) / "pipeline.yaml"
            compile_to(task, package)
            return kubeflow.run(package, task, name=due.start).id

    def _ended_there(self, run: str, now: float) -> str | None:
        if now - self._asked.get(run, 0.0) < ASK_SECONDS:
            return None
        self._asked[run] = now
        try:
            ending = self._connect().get(run).ending
        except KubeflowError as error:
            self._say(f"triggers: {error}")
            return None
        if ending is None:
            return None
        del self._asked[run]
        return ending.state.lower()
