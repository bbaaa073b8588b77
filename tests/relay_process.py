"""A relay in a process of its own, as tests start it, beside a broker of the tests."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from fededge.device.relay.reader import Reader, Sensor
from tests.mqtt_broker import PASSWORD, RELAY

ROOT = Path(__file__).resolve().parents[1]
GROUP: dict[str, Any] = {
    "name": "rooms",
    "sensors": ["room-*"],
    "topic": "building/{sensor}/climate",
    "payload": {
        "kind": "json",
        "fields": [
            {"name": "number", "type": "int64"},
            {"name": "temperature", "unit": "C", "low": -40, "high": 85},
            {"name": "light", "unit": "lx", "low": 0},
            {"name": "occupied", "type": "bool"},
        ],
    },
    "reading": {"id": "number"},
    "label": {"field": "occupied", "name": "occupancy", "classes": ["empty", "occupied"]},
    "quota": {"per_second": 10_000, "burst": 100_000},
    "dataset": {"name": "occupancy", "features": ["temperature", "light"]},
}
BROKER = {
    "host": "127.0.0.1",
    "plain": True,
    "client_id": "relay",
    "user": RELAY,
    "password_file": "password",
}
WAIT_SECONDS = 60.0


def reading(number: int, temperature: Any = 20.5, light: Any = 100, occupied: Any = True) -> str:
    """What a sensor of GROUP sends."""
    said = {"number": number, "temperature": temperature, "light": light, "occupied": occupied}
    return json.dumps(said)


def group(**changes: Any) -> dict[str, Any]:
    """GROUP with other values: a mapping changes keys of one that is there."""
    made = copy.deepcopy(GROUP)
    for key, value in changes.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) and key in made else value
    return made


class Relay:
    """A relay in `root`/relay, whose file lies beside it.

    Attributes:
        log: its lines so far.
    """

    def __init__(self, root: Path, port: int, *groups: dict[str, Any], **broker: Any) -> None:
        self.folder, self.file = root / "relay", root / "relay.yaml"
        (root / "password").write_text(PASSWORD + "\n")
        content = {"broker": BROKER | {"port": port} | broker, "groups": list(groups) or [GROUP]}
        self.file.write_text(json.dumps(content, indent=1))  # which is YAML
        self.log: list[str] = []
        self._grew = threading.Condition()
        self.process: subprocess.Popen[str] | None = None

    @contextmanager
    def running(self, *arguments: str) -> Iterator["Relay"]:
        """It runs, connected, until the end of the block, where it has not ended before."""
        self.start(*arguments)
        try:
            yield self
        finally:
            if self.process is not None:
                self.end()

    def start(
        self,
        *arguments: str,
        said: str | None = "connected to",
        runner: Sequence[str] = (),
        prelude: str = "",
    ) -> None:
        """Start it, after the code `prelude`, and wait until it says so."""
        self.log = []
        code = (
            "import sys; from fededge.device.relay.command import main\n"
            f"{prelude}\nsys.exit(main(sys.argv[1:], {list(runner)}))"
        )
        run = ["run", "--relay", str(self.file), "--folder", str(self.folder)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *run, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        if said is not None:
            self.says(said)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, and wait for its end."""
        assert self.process
        self.process.send_signal(number)
        return self.ends()

    def ends(self) -> int:
        """The status with which it ends."""
        assert self.process
        process, self.process = self.process, None
        return process.wait(60)

    def says(self, text: str, since: int = 0) -> str:
        """The first line from number `since` on with `text`, once it is there."""
        with self._grew:
            assert self._grew.wait_for(
                lambda: any(text in line for line in self.log[since:]), WAIT_SECONDS
            ), self.log
        return next(line for line in self.log[since:] if text in line)

    def sensors(self) -> dict[str, Sensor]:
        """What is known of each sensor, by name; '' for what was nobody's."""
        with closing(Reader(self.folder / "relay.db")) as reader:
            return {each.name: each for each in reader.sensors()}

    def until(self, true: Callable[[dict[str, Sensor]], bool]) -> dict[str, Sensor]:
        """What is known of the sensors, once `true` says so of it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not true(known := self.sensors()):
            assert time.monotonic() < deadline, (known, self.log)
            time.sleep(0.02)
        return known

    def keeps(self, sensor: str, count: int, *, more: bool = False) -> Sensor:
        """What is known of a sensor, once `count` of its readings are kept, or `more`."""
        none = Sensor("", sensor, 0, 0.0, {})

        def kept(known: dict[str, Sensor]) -> bool:
            found = known.get(sensor, none).readings
            return found >= count if more else found == count

        return self.until(kept)[sensor]

    def conditions(self) -> dict[str, Any]:
        """What conditions.json tells, once it is there."""
        file, deadline = self.folder / "conditions.json", time.monotonic() + WAIT_SECONDS
        while not file.exists():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        told: dict[str, Any] = json.loads(file.read_text())
        return told

    def ids(self, sensor: str, group: str = "rooms") -> list[int]:
        """Ids of the readings that are kept of a sensor, in their order."""
        with closing(Reader(self.folder / "relay.db")) as reader:
            return [each.id for each in reversed(reader.newest(group, sensor, 1 << 40))]

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        for line in process.stderr:
            with self._grew:
                self.log.append(line)
                self._grew.notify_all()
