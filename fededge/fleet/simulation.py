"""Simulated devices: real agents as processes of this machine, each with its own folder and samples.

with SimulatedDevices(task, count=6, samples=data_folder) as devices:
    devices.wait(version=3, deadline=60)
    reports = devices.reports()
"""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from fededge import examples, settings
from fededge.documents import DeviceReport
from fededge.errors import DataError, EnvironmentMissing, ReleaseError, TaskError
from fededge.fleet.reports import collect
from fededge.host.layout import ROOT, interpreter
from fededge.signing import SigningKey, public_file
from fededge.task import FederatedTask

POLL = 0.1
Examples = tuple[np.ndarray, np.ndarray]


class SimulatedDevices:
    """`count` devices spread round-robin over the task's device classes, running while the block runs.

    They may start before or after the release is published. They end with the block and, by the
    kernel, with the process and thread that entered it (also on SIGKILL).

    Args:
        task: its `devices` are the classes; its name selects the release.
        count: how many.
        samples: the devices' own labeled samples: the folder of a data artifact, whose clients' test
            examples are dealt out, or one (x float32 [n, ...], y int64 [n]) for each device; n may be 0.
        home: device folders are `<home>/devices/<task>/<device id>` (default: FEDEDGE_HOME).
        storage_url: root of the blob store (default: FEDEDGE_STORAGE).
        python: interpreter of the edge environment (default: .venvs/edge of this clone).
        interval: seconds between two polls of a device.

    Raises:
        TaskError: the task has no device classes.
        DataError: no samples for the devices.
        EnvironmentMissing: no such interpreter.
    """

    def __init__(
        self,
        task: FederatedTask,
        count: int,
        samples: Path | Sequence[Examples],
        *,
        home: Path | None = None,
        storage_url: str | None = None,
        python: Path | None = None,
        interval: float = 1.0,
    ) -> None:
        if not task.devices:
            raise TaskError(f"task {task.name} has no devices: list at least one device class")
        self._task = task
        self._home = home or settings.home()
        self._storage = storage_url or settings.storage()
        self._python = python or interpreter("edge")
        self._interval = interval
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0.0
        if not self._python.exists():
            raise EnvironmentMissing(f"no edge environment at {self._python}. Run `make setup`")
        classes = [device.name for device in task.devices]
        self._classes = {
            f"{classes[i % len(classes)]}-{i // len(classes)}": classes[i % len(classes)]
            for i in range(count)
        }
        dealt = _deal(samples, count) if isinstance(samples, Path) else list(samples)
        if len(dealt) != count:
            raise DataError(f"samples for {len(dealt)} devices given, but there are {count}")
        self._samples = dict(zip(self._classes, dealt, strict=True))

    def __enter__(self) -> "SimulatedDevices":
        """Write each device's samples and start its agent."""
        SigningKey.load_or_create(settings.signing_key_file())
        self._started = time.time()
        try:
            for device in self._classes:
                self._processes[device] = self._start(device)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def folder(self, device: str) -> Path:
        """The folder of one device: its releases, samples and agent.log."""
        return self._home / "devices" / self._task.name / device

    def reports(self) -> list[DeviceReport]:
        """What each device reported last since it was started, sorted by device id."""
        return [
            report
            for report in collect(self._storage, self._task.name)
            if report.device in self._classes and report.at >= self._started
        ]

    def wait(self, version: int, deadline: float) -> list[DeviceReport]:
        """Wait until every device reports that it runs release `version`; the reports.

        Args:
            version: of the registered model.
            deadline: seconds to wait at most.

        Raises:
            ReleaseError: some do not run it by then, or an agent ended; says which and why.
        """
        until = time.monotonic() + deadline
        while True:
            reports = self.reports()
            on_it = [r for r in reports if r.version == version and r.status == "running"]
            if len(on_it) == len(self._classes):
                return reports
            ended = [device for device, process in self._processes.items() if process.poll() is not None]
            if ended or time.monotonic() > until:
                raise ReleaseError(self._explain(version, deadline, reports, ended))
            time.sleep(POLL)

    def _start(self, device: str) -> "subprocess.Popen[bytes]":
        folder = self.folder(device)
        folder.mkdir(parents=True, exist_ok=True)
        x, y = self._samples[device]
        command = [str(self._python), "-m", "fededge.device.agent", self._task.name]
        command += ["--device", device, "--class", self._classes[device], "--folder", str(folder)]
        command += ["--storage", self._storage]
        if len(y):
            examples.write(folder / "samples", x, y)
            command += ["--samples", str(folder / "samples")]
        command += ["--trusted-key", str(public_file(settings.signing_key_file()))]
        command += ["--interval", str(self._interval), "--owner", str(os.getpid())]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with (folder / "agent.log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _explain(self, version: int, deadline: float, reports: list[DeviceReport], ended: list[str]) -> str:
        if ended:
            log = self.folder(ended[0]) / "agent.log"
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            return f"the agent of device {ended[0]} ended: {''.join(last) or 'no word'}. See {log}"
        heard = {report.device: report for report in reports}
        missing = []
        for device in self._classes:
            report = heard.get(device)
            if report is None:
                missing.append(f"{device} has not reported")
            elif report.status != "running" or report.version != version:
                missing.append(f"{device} runs {report.version} ({report.error or 'no error'})")
        return (
            f"release {version} is not on all devices after {deadline:g} s: {'; '.join(missing)}. "
            f"See agent.log in {self._home / 'devices' / self._task.name}"
        )


def _deal(folder: Path, count: int) -> list[Examples]:
    """Test examples of the data artifact's clients, dealt to `count` devices: each example to one."""
    clients = sorted(client.name for client in folder.glob("*") if (client / "test").is_dir())
    if not clients:
        raise DataError(f"{folder} has no clients to take samples from. Run prepare_data again")
    dealt = []
    for device in range(count):
        client = clients[device % len(clients)]
        sharing = range(device % len(clients), count, len(clients))  # devices with this client's data
        part = slice(sharing.index(device), None, len(sharing))
        x, y = examples.read(folder / client / "test")
        dealt.append((x[part], y[part]))
    return dealt
