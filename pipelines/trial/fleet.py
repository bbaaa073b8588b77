"""A fleet on this machine to try a task with: a gateway, and a program of its own for each client.

What a run simulates happens for real: the task's examples are spread over folders, each client enrolls, connects to the
gateway over loopback and alone reads its folder, and the run reaches the clients through the gateway only. Clients are
sites, agents (with the edge environment alone), and a relay, whose examples come from sensors by way of an MQTT broker.

    <folder>/gateway/   registry, blobs, log      <folder>/clients/<name>/   identity, policy, conditions, log
    <folder>/data/      the examples              <folder>/broker.log, sensors.log
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from fededge import settings
from fededge.device.enrollment import enroll
from fededge.documents import Schema
from fededge.errors import TaskError
from fededge.fleet.gateway_client import GatewayClient
from fededge.host.layout import VENVS
from fededge.ports import free_port
from fededge.processes import ended_with_parent
from fededge.protocol import EnrollmentRequest
from fededge.signing import SigningKey
from fededge.task import FederatedTask
from pipelines.spreading import spread
from pipelines.trial import gathering, sensors
from pipelines.trial.chargers import Chargers
from pipelines.trial.clients import ENVIRONMENTS, ClientPlan, RunningClient, plans
from pipelines.trial.policies import policy
from pipelines.trial.programs import Programs, mosquitto, until, until_listening

REGIONS = ["north", "center", "south"]
ENROLLING = 4
"""Clients that enroll at a time."""
ENROLLS_PER_SECOND = 100.0
"""That the gateway takes in: all clients have this machine's address."""


def as_fleet(task: FederatedTask, held_out: Path, charging: bool = False) -> FederatedTask:
    """`task` with its examples at clients: nobody holds all of them, so nothing is trained centrally or alone.

    Args:
        task: with examples that one machine holds.
        held_out: folder with the folder of held-out examples.
        charging: whether clients work only while they charge.
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
    content["learning"]["cohort"]["conditions"] = {"charging": charging}
    return FederatedTask.from_json(json.dumps(content))


class TrialFleet:
    """The gateway and clients of `task`, which run while the block runs; use it with `with`.

    Args:
        task: whose examples are spread, a client for each.
        folder: emptied first; keeps the registry, blobs, identities and logs.
        slow: how many sites work several times slower than they could.
        agents: how many clients are devices, with LiteRT alone, of the task's device classes in turn.
        relay: whether one client is a relay that collects its examples from sensors.
        charging: whether clients work only while they charge.
        say: gets a line for what happens.
        environments: folder of this machine's environments.

    Attributes:
        task: what to run: the same, with its examples at the clients.
        plans: what each client is, by name.
        clients: those that run now, by name.
        environment: variables by which a run finds the gateway.

    Raises:
        TaskError: the task's examples lie at clients already, or it has too few clients, or none that sensors can play.
        DataError, StorageError, EnvironmentMissing: as pipelines.spreading.spread.
        SetupError: there is no MQTT broker here, which a relay needs.
        GatewayError: the gateway or a client does not start.
    """

    def __init__(
        self,
        task: FederatedTask,
        folder: Path,
        slow: int = 0,
        agents: int = 0,
        relay: bool = False,
        charging: bool = False,
        say: Callable[[str], None] = print,
        environments: Path = VENVS,
    ) -> None:
        if not task.simulated:
            raise TaskError(
                f"the examples of {task.name} lie at clients already: give a task with examples to spread"
            )
        self._given = task
        self._folder = folder.resolve()
        self._slow, self._agents, self._relay, self._charging = slow, agents, relay, charging
        self._say = say
        self._environments = environments
        self._programs = Programs(environments)
        self._gateway: subprocess.Popen[bytes] | None = None
        self._beside: list[subprocess.Popen[bytes]] = []
        self._chargers = Chargers()
        self._port = 0
        self.plans: dict[str, ClientPlan] = {}
        self.clients: dict[str, RunningClient] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def open(self) -> None:
        """Start everything; `close` ends it."""
        broker = mosquitto() if self._relay else None
        shutil.rmtree(self._folder, ignore_errors=True)
        population = spread(self._given, self._folder / "data", self._environments)
        self.task = as_fleet(self._given, self._folder / "data" / "held-out", self._charging)
        names = [client.id for client in population.clients]
        if len(names) < self._agents + self._relay:
            raise TaskError(
                f"the task has {len(names)} clients, fewer than the {self._agents} devices"
                f"{' and the relay' if self._relay else ''}: set partition.clients"
            )
        classes = [device.name for device in self._given.devices if device.runtime == "litert"]
        dealt = plans(names, self._agents, self._relay, classes, REGIONS)
        self.plans = {plan.name: plan for plan in dealt}
        self._say(f"{len(names)} clients: {', '.join(names)}")
        SigningKey.load_or_create(settings.signing_key_file())
        try:
            self._start_gateway()
            with ThreadPoolExecutor(ENROLLING) as threads:
                list(threads.map(self._enroll, dealt))
            for plan in dealt:
                if broker and plan.program == "relay":
                    self._collect(plan, broker, population.example)
            self._chargers.start()
            gathering.connect(self, names, self._slow)
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, name: str, *, slow: bool = False) -> None:
        """Start the client `name`, which is enrolled."""
        plan, home = self.plans[name], self._home(name)
        policy = home / "policy.yaml"
        arguments: list[str | Path] = [
            "-m",
            "fededge",
            plan.program,
            "run",
            "--folder",
            home,
            "--policy",
            policy,
        ]
        if plan.program == "relay":
            arguments += ["--relay", home / "relay.yaml"]
        process = self._programs.start(ENVIRONMENTS[plan.program], arguments, self.log(name))
        client = RunningClient(plan, process, slow)
        self.clients[name] = client
        if slow:
            threading.Thread(target=client.slow_down, daemon=True).start()
        self._say(f"{plan.program} {name} started{', slow' if slow else ''}")

    def kill(self, name: str) -> None:
        """End the client `name` as a power cut would."""
        client = self.clients.pop(name)
        client.kill()
        self._say(f"{client.plan.program} {name} killed")

    def charge(self, name: str, charging: bool) -> None:
        """Plug the charger of the client `name` in, or pull it out."""
        self._chargers.set(self._home(name), charging)

    def restart_gateway(self) -> None:
        """End the gateway as a power cut would, and start it again at the same address."""
        assert self._gateway
        self._gateway.kill()
        self._gateway.wait()
        self._start_gateway()

    def log(self, name: str) -> Path:
        """The log of the client `name`."""
        return self._home(name) / "client.log"

    def gateway_client(self) -> GatewayClient:
        """A connection to the gateway, as an operator."""
        told = self.environment
        return GatewayClient(told["FEDEDGE_GATEWAY"], Path(told["FEDEDGE_GATEWAY_TOKEN_FILE"]))

    def close(self) -> None:
        """End all processes."""
        self._chargers.stop()
        for name in list(self.clients):
            self.clients.pop(name).kill()
        for process in filter(None, [self._gateway, *self._beside]):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._gateway, self._beside = None, []

    def _home(self, name: str) -> Path:
        return self._folder / "clients" / name

    def _start_gateway(self) -> None:
        home = self._folder / "gateway"
        home.mkdir(parents=True, exist_ok=True)
        ready, token = home / "ready.json", home / "admin.token"
        ready.unlink(missing_ok=True)
        self._gateway = self._programs.start(
            "platform",
            [
                *("-m", "fededge", "gateway", "serve", "--port", str(self._port)),
                *("--ready-file", ready, "--token-file", token),
                *("--enrolls-per-second", str(ENROLLS_PER_SECOND)),
            ],
            home / "gateway.log",
            {
                "FEDEDGE_HOME": str(home),
                "FEDEDGE_STORAGE": (home / "storage").as_uri(),
            },
        )
        until(ready, self._gateway, home / "gateway.log", "the gateway")
        url = json.loads(ready.read_text())["url"]
        self._port = int(url.rpartition(":")[2])
        self.environment = {"FEDEDGE_GATEWAY": url, "FEDEDGE_GATEWAY_TOKEN_FILE": str(token)}
        self._say(f"gateway {url}")

    def _enroll(self, plan: ClientPlan) -> None:
        home = self._home(plan.name)
        home.mkdir(parents=True)
        request = EnrollmentRequest(
            client=plan.name,
            kind="site" if plan.program == "site" else "device",
            device_class=plan.device_class,
            region=plan.region,
        )
        with self.gateway_client() as gateway:
            token = gateway.enroll(request)[0].token
        (home / "policy.yaml").write_text(
            yaml.safe_dump(policy(plan, self._given.name, self._datasets(plan)))
        )
        if plan.program == "agent":
            self.charge(plan.name, True)
        enroll(home, self.environment["FEDEDGE_GATEWAY"], token)

    def _collect(self, plan: ClientPlan, broker: str, schema: Schema) -> None:
        """Start the broker and the sensors of a relay, and let it collect until it has examples to offer."""
        home, port = self._home(plan.name), free_port()
        told = sensors.relay_file(schema, self._given.name, port)
        (home / "relay.yaml").write_text(yaml.safe_dump(told))
        with (self._folder / "broker.log").open("ab") as output:
            self._beside.append(
                subprocess.Popen(
                    ended_with_parent([broker, "-p", str(port)]), stdout=output, stderr=subprocess.STDOUT
                )
            )
        data = self._folder / "data" / "clients" / plan.name / "train"
        arguments: list[str | Path] = ["-m", "pipelines.trial.sensors", data, f"127.0.0.1:{port}"]
        collecting: list[str | Path] = [
            "-m",
            "fededge",
            "relay",
            "run",
            "--folder",
            home,
            "--relay",
            home / "relay.yaml",
        ]
        until_listening(port, self._beside[-1])
        relay = self._programs.start("edge", collecting, self.log(plan.name))
        try:
            self._beside.append(self._programs.start("edge", arguments, self._folder / "sensors.log"))
            until(self._datasets(plan) / "train" / "schema.json", relay, self.log(plan.name), "the relay")
        finally:
            relay.terminate()
            relay.wait()
        self._say(f"relay {plan.name} collects from its sensors")

    def _datasets(self, plan: ClientPlan) -> Path:
        """The folder with a client's train/ and test/."""
        if plan.program == "relay":
            return self._home(plan.name) / "datasets" / self._given.name
        return self._folder / "data" / "clients" / plan.name
