"""What becomes of rounds when network, sites, disks or clocks fail: real processes, and nothing is counted twice."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from fededge.fleet.registry.database import Registry
from tests import networks
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token
from tests.light_fleet import LightFleet
from tests.postgres import Postgres, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(100)]

CUT_SECONDS = 4.0
"""Longer than the silence after which both sides give a connection up: 2.5 heartbeats of a second."""


@contextmanager
def administrator(gateway: Gateway, url: str) -> Iterator[Operator]:
    """Of the gateway whose registry is at `url`."""
    registry = Registry.open(url)
    secret = token(registry)
    registry.close()
    operator = Operator(gateway.url, secret)
    yield operator
    operator.close()


@contextmanager
def fleet_at(folder: Path, gateway: Gateway, inside: list[str]) -> Iterator[LightFleet]:
    """No sites yet, at a gateway whose files lie in `folder`."""
    with (
        administrator(gateway, f"sqlite:///{folder}/registry.db") as admin,
        LightFleet(folder / "sites", gateway.url, admin, inside) as fleet,
    ):
        yield fleet


def test_a_round_outlives_a_network_that_is_slow_and_cut(tmp_path: Path) -> None:
    if why := networks.missing():
        pytest.skip(why)
    names = [f"site-{number}" for number in range(4)]
    with (
        networks.network() as network,
        Gateway.start(tmp_path, host=network.here, insecure=True, heartbeat_seconds=1.0) as gateway,
        fleet_at(tmp_path, gateway, network.inside) as fleet,
    ):
        network.slow("4mbit")
        fleet.enroll(names)
        fleet.start(names)
        fleet.wait_for(names)
        fleet.open("r-1", 1, names, 400_000)
        fleet.wait_until("r-1", "reported", 1)  # the others upload
        network.cut()
        time.sleep(CUT_SECONDS)
        assert gateway.events("session over")
        network.mend()
        assert fleet.closed("r-1")["reported"] == 4
        assert fleet.counted("r-1") == set(names)
        fleet.open("r-2", 2, names, 1000, works=CUT_SECONDS + 1.0)
        fleet.wait_until("r-2", "accepted", 4)  # they fetch, or train
        network.cut()
        time.sleep(CUT_SECONDS)
        network.mend()
        fleet.closed("r-2")
        assert fleet.counted("r-2") == set(names)


def test_a_round_commits_without_a_third_that_vanishes(tmp_path: Path) -> None:
    names = [f"site-{number}" for number in range(10)]
    stay, go = names[:7], names[7:]
    with (
        Gateway.start(tmp_path, heartbeat_seconds=1.0) as gateway,
        fleet_at(tmp_path, gateway, []) as fleet,
    ):
        fleet.enroll(names)
        fleet.start(stay)
        gone = fleet.start(go)
        fleet.wait_for(names)
        fleet.open("by-goal", 1, names, 1000, works=1.0, goal=7)
        fleet.wait_until("by-goal", "accepted", 10)
        gone.kill()
        assert fleet.closed("by-goal")["reported"] == 7
        assert fleet.counted("by-goal") == set(stay)
        back = fleet.start(go)
        fleet.wait_for(names)
        fleet.open("by-deadline", 2, names, 1000, works=1.5, seconds=6.0)
        fleet.wait_until("by-deadline", "accepted", 10)
        back.kill()
        status = fleet.closed("by-deadline")
        assert (status["reported"], set(status["failures"])) == (7, set(go))
        fleet.start(go)
        fleet.wait_for(names)
        assert fleet.counted("by-deadline") == set(stay)
        fleet.committed("by-goal")
        fleet.committed("by-deadline")
        fleet.open("all", 3, names, 1000)
        assert fleet.closed("all")["reported"] == 10
        fleet.committed("all")
        assert {name: fleet.rounds_of(name) for name in names} == {
            **dict.fromkeys(stay, 3),
            **dict.fromkeys(go, 1),
        }


class SmallDisk:
    """A disk of its own, which can be filled.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room; what is written again meanwhile finds none either."""
        with (self.folder / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 12))

    def free(self) -> None:
        """Give the room back."""
        (self.folder / "filler").unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """A disk of so many megabytes that other users see, too; skips the test where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="fededge-disk-"))
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("only root may mount a small disk")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def test_updates_wait_at_sites_while_the_disk_of_the_gateway_is_full(tmp_path: Path) -> None:
    names = ["site-0", "site-1", "site-2"]
    with (
        small_disk(16) as disk,
        Gateway.start(
            tmp_path, database=f"sqlite:///{disk.folder}/registry.db", storage=disk.folder.as_uri()
        ) as gateway,
        administrator(gateway, f"sqlite:///{disk.folder}/registry.db") as admin,
        LightFleet(tmp_path / "sites", gateway.url, admin) as fleet,
    ):
        fleet.enroll(names)
        fleet.start(names)
        fleet.wait_for(names)
        fleet.open("r-1", 1, names, 300_000, works=1.0)
        fleet.wait_until("r-1", "accepted", 3)
        disk.fill()
        wait_for(lambda: refusals(admin) & {"STORAGE", "UNAVAILABLE", "FAILED"})
        assert admin.http.get("/health").json() == {"state": "up"}
        assert fleet.states("r-1") == dict.fromkeys(names, "accepted")
        disk.free()
        assert fleet.closed("r-1")["reported"] == 3
        assert fleet.counted("r-1") == set(names)
        fleet.open("r-2", 2, names, 1000)
        assert fleet.closed("r-2")["reported"] == 3


def test_reports_wait_at_sites_while_the_disk_of_the_database_is_full(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(why)
    names = ["site-0", "site-1", "site-2"]
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(160))
        server = Postgres({"min_wal_size": "32MB", "max_wal_size": "64MB"}, place=disk.folder)
        stack.callback(server.close)
        server.execute("CREATE DATABASE fleet")
        url = server.url("fleet")
        Registry.migrate(url)
        gateway = stack.enter_context(Gateway.start(tmp_path, database=url))
        admin = stack.enter_context(administrator(gateway, url))
        fleet = stack.enter_context(LightFleet(tmp_path / "sites", gateway.url, admin))
        fleet.enroll(names)
        fleet.start(names)
        fleet.wait_for(names)
        fleet.open("r-1", 1, names, 1000, works=2.0)
        fleet.wait_until("r-1", "accepted", 3)
        disk.fill()
        while admin.http.post("/v1/enrollments", json={"count": 100}).status_code == 200:
            pass  # pages that are there already take some more
        assert admin.refused("POST", "/v1/enrollments", {"count": 100}) == (503, "UNAVAILABLE")
        while not server.ended():  # what is left of the write-ahead log is used up
            with suppress(psycopg.OperationalError):
                server.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))")
        assert admin.http.get("/health").json() == {"state": "up"}
        disk.free()
        server.start()
        assert fleet.closed("r-1")["reported"] == 3
        assert fleet.counted("r-1") == set(names)


def test_rounds_outlive_a_clock_that_jumps_an_hour(tmp_path: Path) -> None:
    names = ["site-0", "site-1", "site-2"]
    clock = tmp_path / "clock"
    clock.write_text("0")
    with (
        Gateway.start(tmp_path, clock=clock) as gateway,
        fleet_at(tmp_path, gateway, []) as fleet,
    ):
        fleet.enroll(names)
        fleet.start(names)
        fleet.wait_for(names)
        for number, jump in ((1, 3600 + 60), (2, 0)):
            for kind, seconds in (("long", 7200.0), ("short", 600.0)):
                fleet.open(f"{kind}-{number}", number, names, 1000, works=1.0, seconds=seconds)
            fleet.wait_until(f"long-{number}", "accepted", 3)
            fleet.wait_until(f"short-{number}", "accepted", 3)
            clock.write_text(str(jump))
            assert fleet.closed(f"long-{number}")["reported"] == 3
            assert fleet.counted(f"long-{number}") == set(names)
            status = fleet.closed(f"short-{number}")
            assert status["reported"] == (0 if jump else 3)
            assert fleet.counted(f"short-{number}") == (set() if jump else set(names))
        fleet.wait_for(names)  # who had not fetched all by then connects anew, for URLs that are good


def wait_for(is_so: Callable[[], object]) -> None:
    """Return once something is so; the test's own time limit ends that."""
    while not is_so():
        time.sleep(0.05)


def refusals(admin: Operator) -> set[str]:
    """For which reasons the gateway refused something so far."""
    return set(re.findall(r'fededge_refused_total\{reason="(\w+)"\}', admin.http.get("/metrics").text))
