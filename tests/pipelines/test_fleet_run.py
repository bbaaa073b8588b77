"""`fededge run` over a real gateway and real sites, all processes of their own; killed, and run again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge import settings
from fededge import task as tasks
from fededge.fleet.gateway_client import GatewayClient
from fededge.fleet.registry.database import Registry
from fededge.host.layout import ROOT, VENVS
from fededge.protocol import EnrollmentRequest, RoundStatus
from fededge.signing import SigningKey, public_file
from fededge.tracking.run import TrackedRun
from pipelines import runs
from pipelines.spreading import spread
from tests.gateway_process import Gateway, token

pytestmark = [pytest.mark.environment("platform"), pytest.mark.slow, pytest.mark.timeout(900)]

WORKER = VENVS / "worker" / "bin" / "python3"
SITES = ["site-0", "site-1", "site-2"]
COMMON: dict[str, Any] = {
    "name": "numerals",
    "seed": 3,
    "model": {"framework": "sklearn", "name": "SGDClassifier", "loss": "log_loss"},
    "learning": {"rounds": 3},
    "gate": {"min": 0.5},
}


@dataclass
class Fleet:
    """A gateway with three sites, each a process that may be stopped."""

    url: str
    token: Path
    sites: dict[str, "subprocess.Popen[bytes]"]
    folder: Path

    def run(self, content: dict[str, Any]) -> "subprocess.Popen[str]":
        """`fededge run` of a task, in a group of its own."""
        (self.folder / "task.yaml").write_text(yaml.safe_dump(content))
        variables = {"FEDEDGE_GATEWAY": self.url, "FEDEDGE_GATEWAY_TOKEN_FILE": str(self.token)}
        return subprocess.Popen(
            [sys.executable, "-m", "fededge", "run", str(self.folder / "task.yaml")],
            env=os.environ | variables | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def rounds(self) -> dict[str, RoundStatus]:
        """The rounds at the gateway, by number and kind."""
        with GatewayClient(self.url, self.token) as gateway:
            return {found.round.split("-", 4)[-1]: found for found in gateway.rounds()}

    def wait(self, for_what: Callable[[], bool]) -> None:
        """Look until something is so."""
        end = time.monotonic() + 120
        while not for_what():
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    if not WORKER.exists():
        pytest.skip("the worker environment is not set up: run `python -m fededge.host`")
    simulated = tasks.parse(yaml.safe_dump(COMMON | {"data": {"source": "digits"}}))
    spread(simulated, tmp_path / "spread")
    key = settings.signing_key_file()
    SigningKey.load_or_create(key)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway.start(tmp_path / "gateway"))
        registry = Registry.open(f"sqlite:///{tmp_path}/gateway/registry.db")
        (tmp_path / "token").write_text(token(registry))
        registry.close()
        found = Fleet(gateway.url, tmp_path / "token", {}, tmp_path)
        operator = stack.enter_context(GatewayClient(gateway.url, found.token))
        for name in SITES:
            folder = tmp_path / name
            folder.mkdir()
            (folder / "token").write_text(operator.enroll(EnrollmentRequest(client=name))[0].token)
            rule = {
                "name": "all",
                "tasks": ["*"],
                "signers": [str(public_file(key))],
                "datasets": ["numerals"],
            }
            policy = {
                "datasets": {"numerals": str(tmp_path / "spread" / "clients" / name)},
                "rules": [rule | {"kinds": ["train", "evaluate", "ranges"]}],
            }
            (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
            site = [str(WORKER), "-m", "fededge", "site"]
            enroll = [
                "enroll",
                gateway.url,
                "--token-file",
                str(folder / "token"),
                "--folder",
                str(folder / "own"),
            ]
            subprocess.run([*site, *enroll], check=True, env=environment)
            run = ["run", "--folder", str(folder / "own"), "--policy", str(folder / "policy.yaml")]
            process = subprocess.Popen([*site, *run], env=environment, stderr=subprocess.DEVNULL)
            stack.callback(_end, process)
            found.sites[name] = process
        found.wait(lambda: sum(client.connected for client in operator.clients()) == len(SITES))
        yield found


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(60)


def version_of(run: runs.Run) -> dict[str, Any]:
    """The model version that a run registered."""
    found: dict[str, Any] = TrackedRun.find(run.id).records()["version"]
    return found


def test_a_run_that_is_killed_in_a_round_goes_on_with_it_to_the_same_model(fleet: Fleet) -> None:
    held_out = {"source": "folders", "path": str(fleet.folder / "spread" / "held-out")}
    data = {"source": "fleet", "dataset": "numerals", "held_out": held_out}
    prices = {"gigabyte": 1.0, "client_second": 0.01}
    content = COMMON | {"data": data, "operation": {"prices": prices, "round_deadline_seconds": 300.0}}
    slow = fleet.sites["site-1"]
    first = fleet.run(content)
    fleet.wait(lambda: bool(fleet.rounds()))
    slow.send_signal(signal.SIGSTOP)  # while its first work starts
    fleet.wait(lambda: any(each.reported == 2 for each in fleet.rounds().values()))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (opened,) = fleet.rounds().values()
    assert (opened.state, opened.number, opened.waiting) == ("open", 1, 1)
    slow.send_signal(signal.SIGCONT)
    fleet.wait(lambda: all(each.state == "closed" for each in fleet.rounds().values()))

    again = fleet.run(content)
    said, _ = again.communicate(timeout=700)
    assert again.returncode == 0, said
    told = {name: (each.outcome, each.reported) for name, each in fleet.rounds().items()}
    assert told == {
        **{f"{number}-train": ("committed", 3) for number in (1, 2, 3)},
        "3-evaluate": ("committed", 3),
        "3-ranges": ("committed", 3),
    }
    (run,) = list(runs.all_runs(settings.home()))
    records = TrackedRun.find(run.id).records()
    rounds = records["rounds-0001"]["rounds"]
    assert [sorted(each["reported"]) for each in rounds] == [SITES] * 3
    assert all(each["bytes_sent"] > 0 and each["bytes_received"] > 0 and each["cost"] > 0 for each in rounds)
    assert records["data"]["simulated"] is False

    # Simulated on this machine, the same clients with the same seed make the same weights, bit for bit.
    (fleet.folder / "local.yaml").write_text(yaml.safe_dump(COMMON | {"data": {"source": "digits"}}))
    subprocess.run(
        [sys.executable, "-m", "fededge", "run", str(fleet.folder / "local.yaml")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    local = next(each for each in runs.all_runs(settings.home()) if each.id != run.id)
    assert version_of(run)["weights_digest"] == version_of(local)["weights_digest"]
