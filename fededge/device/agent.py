"""The agent of a simulated device: follows the release of its class in a blob store, and reports what it runs.

Each poll fetches the release, verifies signature and digest, tries the model on the device's own
samples, and only then swaps it in; whatever goes wrong, the device keeps running what it ran and
says so. `python -m fededge.device.agent --help` lists the options.
"""

import argparse
import logging
import os
import re
import select
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fededge import settings
from fededge.device import samples as own
from fededge.device.installation import Installation, Installed
from fededge.device.performance import Performance
from fededge.device.transport import BlobTransport, Transport
from fededge.documents import DeviceReport, check_model
from fededge.documents.base import ACCURACY
from fededge.documents.fleet import DEVICE_ID, ERROR_LIMIT
from fededge.errors import FedEdgeError, ReleaseError, StorageError
from fededge.inference import LoadedModel, load_model
from fededge.processes import end_with
from fededge.signing import TrustedKey

log = logging.getLogger("fededge.agent")


@dataclass(frozen=True)
class Running:
    """The release that answers on this device now, and how it did on the device's samples."""

    release: Installed
    runtime: LoadedModel
    performance: Performance


class Agent:
    """One device.

    Args:
        device: its id.
        device_class: as in the task's devices.
        installation: its releases on disk.
        transport: its connection to the fleet.
        samples: its own labeled samples, if it has any.
    """

    def __init__(
        self,
        device: str,
        device_class: str,
        installation: Installation,
        transport: Transport,
        samples: own.Samples | None = None,
    ) -> None:
        self._device = device
        self._device_class = device_class
        self._installation = installation
        self._transport = transport
        self._samples = samples
        self._error: str | None = None
        self.running: Running | None = None

    def restore(self) -> None:
        """Run what was installed: the current release or, if that is damaged, the previous one."""
        try:
            names = self._installation.names()
        except FedEdgeError as error:
            log.warning("%s", error)
            return
        for name in names:
            try:
                self.running = self._try_out(self._installation.open(name))
            except FedEdgeError as error:
                log.warning("installed release %s is not usable: %s", name, error)
            else:
                log.info("runs release %s, as installed", name)
                return

    def poll(self) -> DeviceReport:
        """Follow the release once and hand in a report, which is also returned."""
        error = None
        try:
            self._follow()
        except FedEdgeError as mistake:
            error = " ".join(str(mistake).split())[:ERROR_LIMIT]
        if error and error != self._error:
            log.warning("%s", error)
        self._error = error
        report = self._report(error)
        try:
            self._transport.report(report)
        except StorageError as mistake:
            log.warning("report not handed in: %s", mistake)
        return report

    def _follow(self) -> None:
        envelope = self._transport.fetch_release()
        name, manifest, variant = self._installation.verify(envelope)
        running = self.running.release if self.running else None
        if running is not None:
            if name == running.name:
                return
            if manifest.issued <= running.manifest.issued:
                raise ReleaseError(
                    f"refused release {manifest.version}: it was issued no later than release "
                    f"{running.manifest.version}, which runs here. Publish the release again"
                )
        model = self._transport.fetch_model(variant)
        check_model(variant, model)
        release = Installed(name, manifest, variant, model)
        candidate = self._try_out(release)
        self._installation.install(release, envelope, running.name if running else None)
        self.running = candidate
        log.info("runs release %s: %s %s", name, variant.kind, variant.digest)

    def _try_out(self, release: Installed) -> Running:
        runtime = load_model(release.model, release.variant.kind, threads=1)
        manifest = release.manifest
        performance = own.try_out(runtime, self._samples, manifest.shape, manifest.classes)
        return Running(release, runtime, performance)

    def _report(self, error: str | None) -> DeviceReport:
        running = self.running
        return DeviceReport(
            **{"class": self._device_class},
            device=self._device,
            version=running.release.manifest.version if running else None,
            kind=running.release.variant.kind if running else None,
            digest=running.release.variant.digest if running else None,
            status="failed" if error else "running",
            error=error,
            metric=running.performance.metric if running else ACCURACY,
            score=running.performance.score if running else None,
            latency_ms=running.performance.latency_ms if running else None,
            at=time.time(),
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the agent as a command.

    Returns:
        0 when it ended as told; 2 for a mistake in its options or, with --once, when it could not
        follow the release.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s {options.device} %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if options.owner is not None:
        end_with(options.owner)
    try:
        return _run(options, _ending())
    except FedEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _ending() -> int:
    """A file descriptor that can be read once this process was told to end."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return told


def _run(options: argparse.Namespace, ending: int) -> int:
    trusted = TrustedKey.load(options.trusted_key)
    samples = own.read(options.samples) if options.samples else None
    folder = options.folder or settings.home() / "devices" / options.task / options.device
    with closing(Installation(folder, options.task, options.device_class, trusted)) as installation:
        transport = BlobTransport(options.storage or settings.storage(), options.task)
        agent = Agent(options.device, options.device_class, installation, transport, samples)
        agent.restore()
        while True:
            report = agent.poll()
            if options.once:
                print(report.to_bytes().decode())
                return 0 if report.error is None else 2
            if select.select([ending], [], [], options.interval)[0]:
                return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fededge.device.agent", description="Run the released model of a task on this device."
    )
    parser.add_argument("task", type=_name, help="name of the task whose releases to follow")
    parser.add_argument("--device", type=_name, required=True, help="id of this device, unique in its task")
    parser.add_argument("--class", dest="device_class", type=_name, required=True, help="its device class")
    parser.add_argument(
        "--trusted-key",
        type=Path,
        required=True,
        help="PEM file of the public key that releases must be signed by",
    )
    parser.add_argument("--samples", type=Path, help="folder with the device's own x.npy and y.npy")
    parser.add_argument(
        "--folder", type=Path, help="where it keeps its releases (default: $FEDEDGE_HOME/devices/TASK/DEVICE)"
    )
    parser.add_argument("--storage", help="root URL of the blob store (default: $FEDEDGE_STORAGE)")
    parser.add_argument("--interval", type=_seconds, default=30.0, help="seconds between polls (default: 30)")
    parser.add_argument("--once", action="store_true", help="poll once, print the report and end")
    parser.add_argument("--owner", type=int, metavar="PID", help="end when this parent process ends (Linux)")
    return parser


def _name(text: str) -> str:
    if not re.fullmatch(DEVICE_ID, text):
        raise argparse.ArgumentTypeError(f"{text!r} must be letters, digits, - and _, at most 64")
    return text


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0 and at most 86400")
    return value


if __name__ == "__main__":
    sys.exit(main())
