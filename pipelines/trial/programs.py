"""Programs of a trial fleet: started in the environments of this machine, ended with the process that started them."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from fededge import settings
from fededge.errors import GatewayError, SetupError
from fededge.processes import ended_with_parent
from pipelines.environments import interpreter_folder

START = 120.0
"""Seconds that something may take to start."""


class Programs:
    """Starts programs of the environments in `environments`."""

    def __init__(self, environments: Path) -> None:
        self._environments = environments

    def python(self, environment: str) -> str:
        """The interpreter of an environment."""
        return str(interpreter_folder(environment, self._environments) / "python3")

    def variables(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """The environment variables of a program, with `more`."""
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, **settings.without_proxy(os.environ), "PYTHONPATH": path, **more}

    def start(
        self, environment: str, arguments: list[str | Path], log: Path, more: Mapping[str, str] = {}
    ) -> subprocess.Popen[bytes]:
        """Start Python with `arguments` in an environment; what it says is appended to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ended_with_parent([self.python(environment), *arguments]),
                env=self.variables(more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


def until(ready: Path, process: subprocess.Popen[bytes], log: Path, what: str) -> None:
    """Wait until `process`, called `what`, has written the file `ready`."""
    waited = threading.Event()
    for _ in range(int(START / 0.1)):
        if ready.exists():
            return
        if process.poll() is not None:
            break
        waited.wait(0.1)
    words = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no words"]
    raise GatewayError(f"{what} did not start: {words[0][:500]}. See {log}")


def until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a broker's `process` takes connections on `port` of this machine."""
    waited = threading.Event()
    for _ in range(int(START / 0.1)):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        waited.wait(0.1)
    raise GatewayError("the MQTT broker did not start")


def mosquitto() -> str:
    """The broker of this machine.

    Raises:
        SetupError: there is none.
    """
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        raise SetupError(
            "a relay needs an MQTT broker here: install mosquitto (Debian: apt install mosquitto)"
        )
    return found
