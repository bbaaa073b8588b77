"""An agent that trains on LiteRT and is killed hands in what it would have, to the last bit, and once."""

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from fededge import archives
from fededge.device.history import remembered
from fededge.eligibility import Conditions
from fededge.protocol import Decline, Hello, ReportMessage
from tests.enrolled_site import ROOT, EnrolledSite, in_loop
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")
FIXTURE = ROOT / "tests" / "fixtures" / "litert"
RUNNER = "fededge.device.litert_runner"


def agent(folder: Path) -> EnrolledSite:
    """A device that holds the examples of the fixture."""
    folder.mkdir()
    device = EnrolledSite(folder, [sys.executable, "-m", RUNNER])
    device.write_policy(datasets={"steps": str(FIXTURE / "client")})
    return device


def order(gateway: StandInGateway, number: int = 1, **changes: object) -> object:
    plan = archives.packed(FIXTURE / "plan")
    return gateway.order(number, plan=plan, weights=(FIXTURE / "weights").read_bytes(), **changes)


def runners(pid: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if RUNNER in child.cmdline() and "--plan" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_an_agent_that_is_killed_as_it_trains_hands_in_the_same_update(tmp_path: Path) -> None:
    async def scenario() -> None:
        whole, killed = agent(tmp_path / "whole"), agent(tmp_path / "killed")
        async with StandInGateway() as gateway, whole.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(order(gateway))
            expected = (await gateway.hears(ReportMessage)).update
            assert expected is not None
        async with StandInGateway() as gateway:
            async with killed.process(gateway) as process:
                await gateway.hears(Hello)
                await gateway.tell(order(gateway))
                while not (children := runners(process.pid)):
                    await asyncio.sleep(0.005)
                process.kill()
                await process.wait()
            _, alive = await asyncio.to_thread(psutil.wait_procs, children, 30)
            assert alive == []
            async with killed.running(gateway):
                assert (await gateway.hears(ReportMessage)).update == expected
                while remembered(killed.folder / "store.db", 1)[0].outcome != "kept":
                    await asyncio.sleep(0.01)
                await gateway.tell(order(gateway))
                assert "done here before" in (await gateway.hears(Decline)).reason

    in_loop(scenario)


@pytest.mark.slow
def test_an_agent_measures_its_machine_before_it_trains(tmp_path: Path) -> None:
    device = agent(tmp_path / "device")

    async def scenario() -> None:
        async with StandInGateway() as gateway, device.running(gateway):
            said = (await gateway.hears(Hello)).conditions
            assert int(said["free_memory_bytes"]) > 0
            enough = Conditions(min_free_memory_bytes=1 << 20, min_free_storage_bytes=1 << 20)
            await gateway.tell(order(gateway, 1, conditions=enough))
            assert (await gateway.hears(ReportMessage)).failure is None
            more = Conditions(min_free_memory_bytes=1 << 50)
            await gateway.tell(order(gateway, 2, conditions=more))
            assert "ineligible: free_memory_bytes is" in (await gateway.hears(Decline)).reason

    in_loop(scenario)
