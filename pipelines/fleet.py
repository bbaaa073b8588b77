"""A fleet on this machine to try a task with: a gateway, and a site of its own process for each client.

What a run simulates happens for real: the task's examples are spread over folders, each site enrolls, connects to the
gateway over loopback and alone reads its folder, and the run reaches the sites through the gateway only.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import yaml

from fededge import settings
from fededge.errors import GatewayError, TaskError
from fededge.fleet.gateway_client import GatewayClient
from fededge.host.layout import VENVS
from fededge.processes import ended_with_parent
from fededge.protocol import EnrollmentRequest
from fededge.signing import SigningKey, public_file
from fededge.task import FederatedTask
from pipelines.environments import interpreter_folder
from pipelines.spreading import spread

SLOWER = 5
"""How many times slower a slow site works."""
TURN = 0.5
"""Seconds in which a slow site works once."""
START = 120.0
"""Seconds that the gateway may take to start, and then the sites to connect."""


def as_fleet(task: FederatedTask, held_out: Path) -> FederatedTask:
    """`task` with its examples at sites: nobody holds all of them, so nothing is trained centrally or alone.

    Args:
        task: with examples that one machine holds.
        held_out: folder with the folder of held-out examples.
    """
    content = json.loads(task.to_json())
    del content["partition"]
    content["data"] = {
        "source": "fleet",
        "dataset": task.name,
        "held_out": {"source": "folders", "path": str(held_out)},
    }
    content["compare"] = {"centralized": False, "alone": False}
    content["gate"]["max_gap_to_centralized"] = None
    content["learning"]["engine"] = "federated"
    return FederatedTask.from_json(json.dumps(content))


@dataclass
class Site:
    """A site's process, and whether it is made slow."""

    name: str
    process: subprocess.Popen[bytes]
    slow: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class TrialFleet:
    """The gateway and sites of `task`, which run while the block runs; use it with `with`.

    Args:
        task: whose examples are spread, a site for each client.
        folder: emptied first; keeps the registry, blobs, identities and logs.
        slow: how many sites work SLOWER times slower than they could.
        say: gets a line for what happens.
        environments: folder of this machine's environments.

    Attributes:
        task: what to run: the same, with its examples at the sites.
        environment: variables by which a run finds the gateway.

    Raises:
        TaskError: the task's examples lie at sites already.
        DataError, StorageError, EnvironmentMissing: as pipelines.spreading.spread.
        GatewayError: the gateway does not start.
    """

    def __init__(
        self,
        task: FederatedTask,
        folder: Path,
        slow: int = 0,
        say: Callable[[str], None] = print,
        environments: Path = VENVS,
    ) -> None:
        if not task.simulated:
            raise TaskError(
                f"the examples of {task.name} lie at sites already: give a task with examples to spread"
            )
        self._given = task
        self._folder = folder.resolve()
        self._slow = slow
        self._say = say
        self._environments = environments
        self._gateway: subprocess.Popen[bytes] | None = None
        self._port = 0
        self.sites: dict[str, Site] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def open(self) -> None:
        """Start everything; `close` ends it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        population = spread(self._given, self._folder / "data", self._environments)
        self.task = as_fleet(self._given, self._folder / "data" / "held-out")
        names = [client.id for client in population.clients]
        self._say(f"{len(names)} clients: {', '.join(names)}")
        SigningKey.load_or_create(settings.signing_key_file())
        try:
            self._start_gateway()
            for number, name in enumerate(names):
                self._enroll(name)
                self.start(name, slow=number < self._slow)
            self._until_connected(set(names))
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, *, slow: bool = False) -> None:
        """Start the site `name`, which is enrolled."""
        process = self._process(
            "worker",
            [
                *("-m", "fededge", "site", "run"),
                *("--folder", self._home(name), "--policy", self._home(name) / "policy.yaml"),
            ],
            self.log(name),
        )
        site = Site(name, process, slow)
        self.sites[name] = site
        if slow:
            threading.Thread(target=_slow_down, args=(site,), daemon=True).start()
        self._say(f"site {name} started{', slow' if slow else ''}")

    def kill(self, name: str) -> None:
        """End the site `name` as a power cut would."""
        _end(self.sites.pop(name))
        self._say(f"site {name} killed")

    def restart_gateway(self) -> None:
        """End the gateway as a power cut would, and start it again at the same address."""
        assert self._gateway
        self._gateway.kill()
        self._gateway.wait()
        self._start_gateway()

    def log(self, name: str) -> Path:
        """The log of the site `name`."""
        return self._home(name) / "site.log"

    def close(self) -> None:
        """End all processes."""
        for name in list(self.sites):
            _end(self.sites.pop(name))
        if self._gateway:
            self._gateway.terminate()
            try:
                self._gateway.wait(20)
            except subprocess.TimeoutExpired:
                self._gateway.kill()
                self._gateway.wait()
            self._gateway = None

    def _home(self, name: str) -> Path:
        return self._folder / "sites" / name

    def _start_gateway(self) -> None:
        home = self._folder / "gateway"
        home.mkdir(parents=True, exist_ok=True)
        ready, token = home / "ready.json", home / "admin.token"
        ready.unlink(missing_ok=True)
        self._gateway = self._process(
            "platform",
            [
                *("-m", "fededge", "gateway", "serve", "--port", str(self._port)),
                *("--ready-file", ready, "--token-file", token),
            ],
            home / "gateway.log",
            {
                "FEDEDGE_HOME": str(home),
                "FEDEDGE_STORAGE": (home / "storage").as_uri(),
            },
        )
        _until(ready, self._gateway, home / "gateway.log")
        url = json.loads(ready.read_text())["url"]
        self._port = int(url.rpartition(":")[2])
        self.environment = {"FEDEDGE_GATEWAY": url, "FEDEDGE_GATEWAY_TOKEN_FILE": str(token)}
        self._say(f"gateway {url}")

    def _enroll(self, name: str) -> None:
        home = self._home(name)
        home.mkdir(parents=True)
        url, token_file = self.environment["FEDEDGE_GATEWAY"], self.environment["FEDEDGE_GATEWAY_TOKEN_FILE"]
        with GatewayClient(url, Path(token_file)) as gateway:
            token = gateway.enroll(EnrollmentRequest(client=name))[0].token
        (home / "token").write_text(token)
        (home / "policy.yaml").write_text(yaml.safe_dump(self._policy(name)))
        done = subprocess.run(
            [
                self._python("worker"),
                *("-m", "fededge", "site", "enroll", url),
                *("--folder", home, "--token-file", home / "token"),
            ],
            env=self._variables(),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise GatewayError(f"site {name} cannot enroll: {done.stderr.strip()[-500:]}")

    def _until_connected(self, names: set[str]) -> None:
        """Wait until the gateway has a session of each site."""
        waited = threading.Event()
        url, token_file = self.environment["FEDEDGE_GATEWAY"], self.environment["FEDEDGE_GATEWAY_TOKEN_FILE"]
        with GatewayClient(url, Path(token_file)) as gateway:
            for _ in range(int(START / 0.2)):
                if {client.client for client in gateway.clients(connected=True)} >= names:
                    return
                for site in self.sites.values():
                    if site.process.poll() is not None:
                        words = self.log(site.name).read_text(errors="replace").strip().splitlines()[-1:]
                        raise GatewayError(
                            f"site {site.name} ended: {''.join(words)[:500]}. See {self.log(site.name)}"
                        )
                waited.wait(0.2)
        raise GatewayError(f"not all sites connected within {START:g} s. See {self._folder / 'sites'}")

    def _policy(self, name: str) -> dict[str, object]:
        """What the site allows: this task's orders, signed by this machine's release key, on the site's own folder."""
        return {
            "datasets": {self._given.name: str(self._folder / "data" / "clients" / name)},
            "rules": [
                {
                    "name": "trial",
                    "tasks": [self._given.name],
                    "signers": [str(public_file(settings.signing_key_file()).resolve())],
                    "datasets": [self._given.name],
                    "kinds": ["train", "evaluate", "ranges"],
                    "min_clients": 1,
                    "min_examples": 1,
                }
            ],
        }

    def _python(self, environment: str) -> str:
        return str(interpreter_folder(environment, self._environments) / "python3")

    def _variables(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, **settings.without_proxy(os.environ), "PYTHONPATH": path, **more}

    def _process(
        self, environment: str, arguments: list[str | Path], log: Path, more: Mapping[str, str] = {}
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                ended_with_parent([self._python(environment), *arguments]),
                env=self._variables(more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


def _until(ready: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `process` has written the file `ready`."""
    waited = threading.Event()
    for _ in range(int(START / 0.1)):
        if ready.exists():
            return
        if process.poll() is not None:
            break
        waited.wait(0.1)
    words = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no words"]
    raise GatewayError(f"the gateway did not start: {words[0][:500]}. See {log}")


def _slow_down(site: Site) -> None:
    """Let the site's processes work one part in SLOWER of the time."""
    while not site.ended.is_set():
        everything = _tree(site)
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        stopped = site.ended.wait(TURN * (SLOWER - 1) / SLOWER)
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        if stopped or site.ended.wait(TURN / SLOWER):
            return


def _tree(site: Site) -> list[psutil.Process]:
    try:
        children = psutil.Process(site.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children  # its connection goes on: it is the work that is slow


def _end(site: Site) -> None:
    site.ended.set()
    children = _tree(site)
    site.process.kill()
    for process in children:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    site.process.wait()
