"""Gateways that look for work once an hour by themselves: what reaches their clients came by a wake-up."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from fededge.errors import GatewayError
from fededge.fleet.gateway.operators import OPERATIONS
from fededge.fleet.gateway.wakeup import CHANNEL, WakeUps
from fededge.fleet.registry.database import Registry
from fededge.ports import free_port
from fededge.protocol import RoundStatus
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token

HOUR = 3600.0


class Redis:
    """A server of Redis on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            ".",
        ]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_for_listeners(self, count: int) -> None:
        with redis.Redis(port=self.port) as connection:
            while True:
                try:
                    if connection.pubsub_numsub(CHANNEL)[0][1] == count:
                        return
                except redis.ConnectionError:
                    pass  # it starts
                time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed here")
    made = Redis(tmp_path)
    yield made
    made.stop()


@contextmanager
def pair(folder: Path, **settings: Any) -> Iterator[tuple[Gateway, Operator, Operator]]:
    """The second of two gateways, and an administrator at each."""
    with ExitStack() as stack:
        gateways = [stack.enter_context(Gateway.start(folder, **settings)) for _ in range(2)]
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        secret = token(registry)
        registry.close()
        admins = [Operator(gateway.url, secret) for gateway in gateways]
        yield gateways[1], admins[0], admins[1]
        for admin in admins:
            admin.close()


def test_work_that_one_gateway_makes_reaches_the_clients_of_another_at_once(
    server: Redis, tmp_path: Path
) -> None:
    server.start()
    with pair(tmp_path, redis=server.url, poll_seconds=HOUR) as (_, here, there):
        server.wait_for_listeners(2)
        client = there.enroll("site").join()
        here.round("r", ["site"])
        assignment = client.hear()
        assert (assignment.type, client.ask({"type": "accept", "assignment": assignment.id}).outcome) == (
            "assignment",
            "kept",
        )
        here("POST", "/v1/rounds/r/close", {"outcome": "failed", "reason": "enough"})
        assert client.hear().type == "cancel"
        here("POST", "/v1/clients/site/revoke")
        assert client.hear().type == "bye"
        client.close()


def test_where_redis_is_away_work_waits_for_the_next_look_and_no_longer(
    server: Redis, tmp_path: Path
) -> None:
    with pair(tmp_path, redis=server.url) as (gateway, here, there):
        assert there.http.get("/ready").json() == {"state": "ready"}
        client = there.enroll("site").join()
        here.round("r-1", ["site"])
        assert client.hear().type == "assignment"
        assert {line["problem"] for line in gateway.events("redis")} <= {"ConnectionError"}
        server.start()
        server.wait_for_listeners(2)
        server.stop()
        here.round("r-2", ["site"])
        while client.hear().type != "assignment":
            pass
        client.close()


@pytest.mark.parametrize(("reported", "wakes"), [(1, True), (2, False)])
def test_a_round_that_nobody_works_for_any_more_wakes_no_gateway_as_it_ends(
    reported: int, wakes: bool
) -> None:
    close = next(each for each in OPERATIONS if each.path == "/v1/rounds/{round}/close")
    counts = {"goal": 3, "reported": reported, "failed": 1, "waiting": 0, "opened": 0.0, "deadline": 9.0}
    told = {"round": "r", "task": "digits", "kind": "train", "number": 1, "state": "closed"}
    assert close.wakes(RoundStatus(**told, cohort=["a", "b", "c"], **counts)) is wakes  # type: ignore[arg-type]


def test_a_url_that_is_none_of_redis_is_told_without_its_password() -> None:
    with pytest.raises(GatewayError, match="FEDEDGE_GATEWAY_REDIS is no URL of Redis") as refused:
        WakeUps("http://:secret@host")
    assert "secret" not in str(refused.value)
