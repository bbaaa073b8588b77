"""How a trial fleet's clients start, connect, and follow a release."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fededge.errors import GatewayError
from pipelines.trial import gathering
from pipelines.trial.clients import RunningClient, plans

pytestmark = pytest.mark.environment("platform")


class Gateway:
    """Has a session of each client that started, one more whenever it is asked, and then of each its release."""

    def __init__(self) -> None:
        self.connecting: list[str] = []
        self.connected: list[str] = []
        self.updated: list[str] = []

    def clients(self, connected: bool = False) -> Iterator[Any]:
        if connected and self.connecting:
            self.connected.append(self.connecting.pop(0))
        elif not connected and len(self.updated) < len(self.connected):
            self.updated.append(self.connected[len(self.updated)])
        for name in self.connected:
            yield SimpleNamespace(client=name, running=[1] if name in self.updated else [])


class Fleet:
    """A fleet whose clients are processes that run `program`."""

    def __init__(self, folder: Path, agents: int, program: str) -> None:
        names = [f"device-{number}" for number in range(agents)]
        self.plans = {plan.name: plan for plan in plans(names, agents, False, ["lamp"], ["north"])}
        self.clients: dict[str, RunningClient] = {}
        self.gateway, self._folder, self._program = Gateway(), folder, program
        self.slow: list[str] = []
        self.most = 0

    @contextmanager
    def gateway_client(self) -> Iterator[Gateway]:
        yield self.gateway

    def start(self, name: str, *, slow: bool) -> None:
        with self.log(name).open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-S", "-c", self._program], stdin=subprocess.PIPE, stderr=output
            )
        self.clients[name] = RunningClient(self.plans[name], process)
        self.gateway.connecting.append(name)
        self.slow += [name] if slow else []
        self.most = max(self.most, len(self.gateway.connecting))

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Any]:
    made = []

    def make(agents: int, program: str) -> Fleet:
        made.append(Fleet(tmp_path, agents, program))
        return made[-1]

    yield make
    for each in made:
        for client in each.clients.values():
            client.process.communicate()


def test_clients_start_a_few_at_a_time_until_all_are_connected(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "AT_ONCE", 2)
    trial = fleet(5, "input()")
    gathering.connect(trial, list(trial.plans), slow=1)
    assert set(trial.gateway.connected) == set(trial.plans)
    assert (trial.most, trial.slow) == (2, ["device-0"])
    assert gathering.followers(trial) == "5 of 5 devices run the release"


def test_a_client_that_ends_instead_of_connecting_is_named_with_its_last_words(fleet: Any) -> None:
    trial = fleet(1, "raise SystemExit('error: no policy')")
    trial.gateway.clients = lambda connected: iter(())
    with pytest.raises(GatewayError, match="agent device-0 ended: error: no policy"):
        gathering.connect(trial, list(trial.plans), slow=0)


def test_a_client_that_does_not_connect_is_not_waited_for_for_ever(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "START", 0.1)
    trial = fleet(1, "input()")
    trial.gateway.clients = lambda connected: iter(())
    with pytest.raises(GatewayError, match="device-0 did not connect within"):
        gathering.connect(trial, list(trial.plans), slow=0)
