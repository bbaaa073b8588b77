"""A client works only while its conditions are met, and what is not known is not met."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fededge.device.clock import Clock
from fededge.device.monitor import MachineMonitor
from fededge.device.policy import PolicyFile
from fededge.eligibility import Conditions, Window
from fededge.protocol import Accept, Decline, Heartbeat, Hello, ReportMessage, Welcome
from tests.enrolled_site import EnrolledSite, in_loop
from tests.stand_in_gateway import StandInGateway, plan_zip

pytestmark = pytest.mark.environment("worker", "edge")
DECADE = 10 * 365 * 86_400.0


class Facts(dict[str, str]):
    """A monitor that tells what it holds."""

    def read(self) -> dict[str, str]:
        return dict(self)

    def mistake(self) -> str | None:
        return None


@pytest.fixture
def site(tmp_path: Path) -> EnrolledSite:
    return EnrolledSite(tmp_path)


def charging(**more: Any) -> Conditions:
    return Conditions(charging=True, **more)


def test_an_order_whose_conditions_are_not_met_is_declined_with_the_reason(site: EnrolledSite) -> None:
    facts = Facts(charging="false")

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway, monitor=facts):
            assert (await gateway.hears(Hello)).conditions["charging"] == "false"
            await gateway.tell(gateway.order(1, conditions=charging()))
            assert (await gateway.hears(Decline)).reason == (
                "ineligible: charging is false, where true is asked for"
            )
            await gateway.tell(gateway.order(2, conditions=Conditions(idle=True)))
            assert "idle is not known" in (await gateway.hears(Decline, 2)).reason
            facts["charging"] = "true"
            await gateway.tell(gateway.order(3, conditions=charging()))
            assert (await gateway.hears(ReportMessage)).failure is None

    in_loop(scenario)


def test_a_charger_that_is_pulled_ends_the_work_and_its_child_and_says_so(site: EnrolledSite) -> None:
    facts = Facts(charging="true")

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway, monitor=facts):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(plan=plan_zip(do="wait"), conditions=charging()))
            await gateway.hears(Accept)
            while not (site.folder / "runner" / "files" / "began").exists():
                await asyncio.sleep(0.01)
            children = psutil.Process().children(recursive=True)
            assert children
            facts["charging"] = "false"
            report = await gateway.hears(ReportMessage)
            assert str(report.failure).startswith("ineligible: charging is false")
            assert report.update is None
            assert not [
                child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
            ]

    in_loop(scenario)


def test_conditions_are_looked_at_again_after_a_restart(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with site.running(gateway, monitor=Facts(charging="true")):
                await gateway.hears(Hello)
                await gateway.tell(gateway.order(plan=plan_zip(do="wait"), conditions=charging()))
                while not (site.folder / "runner" / "files" / "began").exists():
                    await asyncio.sleep(0.01)
            async with site.running(gateway, monitor=Facts()):
                assert "charging is not known" in str((await gateway.hears(ReportMessage)).failure)

    in_loop(scenario)


def test_new_examples_are_those_that_came_since_it_last_learned(site: EnrolledSite) -> None:
    enough = Conditions(min_new_examples=30)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with site.running(gateway, monitor=Facts()):
                assert (await gateway.hears(Hello)).conditions["new_examples"] == "40"
                await gateway.tell(gateway.order(1, conditions=enough))
                assert (await gateway.hears(ReportMessage)).update is not None
                await gateway.tell(gateway.order(2, conditions=enough))
                assert "new_examples is 0" in (await gateway.hears(Decline)).reason
            site.write_data(70)
            async with site.running(gateway, monitor=Facts()):
                assert (await gateway.hears(Hello, 2)).conditions["new_examples"] == "30"
                await gateway.tell(gateway.order(3, conditions=enough))
                assert (await gateway.hears(ReportMessage, 2)).update is not None

    in_loop(scenario)


def test_a_client_tells_what_changed_with_its_heartbeats(site: EnrolledSite) -> None:
    facts = Facts(charging="false", battery="0.5")

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.heartbeat_seconds = 1.0
            async with site.running(gateway, monitor=facts):
                await gateway.hears(Hello)
                facts["battery"] = "0.512"
                assert (await gateway.hears(Heartbeat)).conditions is None
                facts["charging"] = "true"
                told = await gateway.until(
                    lambda: next((beat for beat in gateway.heard(Heartbeat) if beat.conditions), None)
                )
                assert told.conditions is not None
                assert (told.conditions["charging"], told.conditions["battery"]) == ("true", "0.5")
                assert len(told.model_dump_json()) < 1024

    in_loop(scenario)


def test_a_client_is_in_the_region_that_the_gateway_says_unless_it_knows_better(site: EnrolledSite) -> None:
    facts = Facts()

    async def scenario() -> None:
        async with StandInGateway() as gateway:

            async def welcome(session: Any, hello: Hello) -> None:
                await session.send(Welcome(version=2, session="s", heartbeat_seconds=30.0, region="us"))

            gateway.react["hello"] = welcome
            async with site.running(gateway, monitor=facts):
                await gateway.hears(Hello)
                await gateway.tell(gateway.order(1, conditions=Conditions(regions=["us"])))
                assert (await gateway.hears(ReportMessage)).failure is None
                facts["region"] = "eu"
                await gateway.tell(gateway.order(2, conditions=Conditions(regions=["us"])))
                assert "region is eu" in (await gateway.hears(Decline)).reason

    in_loop(scenario)


@pytest.mark.parametrize("off", [-DECADE, DECADE])
def test_a_clock_that_is_ten_years_off_changes_nothing_but_windows(site: EnrolledSite, off: float) -> None:
    def wall() -> float:
        return time.time() + off

    here = time.gmtime(wall())
    now = Window(begin=f"{here.tm_hour:02}:{here.tm_min:02}", end=f"{(here.tm_hour + 2) % 24:02}:00")
    never = Window(begin=f"{(here.tm_hour + 6) % 24:02}:00", end=f"{(here.tm_hour + 7) % 24:02}:00")
    facts = Facts(charging="true", utc_offset_minutes="0")

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway, wall=wall, monitor=facts):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(1, conditions=charging(min_new_examples=1, windows=[now])))
            assert (await gateway.hears(ReportMessage)).failure is None
            await gateway.tell(gateway.order(2, conditions=charging(windows=[never])))
            assert "utc_offset_minutes is 0, where a time of" in (await gateway.hears(Decline)).reason

    in_loop(scenario)


# This machine


@pytest.fixture
def told(site: EnrolledSite) -> Path:
    """The integrator's file, which the policy names."""
    site.write_policy(conditions={"file": "told.json", "always": {"metered": False}, "max_age_seconds": 60})
    return site.root / "told.json"


@pytest.fixture
def monitor(site: EnrolledSite, told: Path) -> MachineMonitor:
    return MachineMonitor(site.root, PolicyFile(site.policy_file), Clock())


def write(file: Path, content: Any) -> None:
    aside = file.with_suffix(".new")
    aside.write_text(content if isinstance(content, str) else json.dumps(content))
    os.replace(aside, file)


def test_a_machine_tells_what_it_can_measure(monitor: MachineMonitor) -> None:
    facts = monitor.read()
    assert int(facts["free_memory_bytes"]) > 0
    assert int(facts["free_storage_bytes"]) > 0
    assert facts["metered"] == "false"  # the policy says so
    assert abs(float(facts["utc_offset_minutes"])) <= 24 * 60


def test_an_integrators_file_is_believed_once_it_is_written_and_not_before(
    monitor: MachineMonitor, told: Path
) -> None:
    assert "manual" not in monitor.read()
    write(told, {"manual": True, "battery": 0.25})
    assert "manual" not in monitor.read()
    assert "not written since this program began" in str(monitor.mistake())
    write(told, {"manual": True, "battery": 0.25})
    assert {"manual": "true", "battery": "0.25"}.items() <= monitor.read().items()
    assert monitor.mistake() is None


def test_an_integrators_file_that_is_old_tells_nothing(
    monitor: MachineMonitor, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        write(told, {"manual": True})
        monitor.read()
    assert monitor.read()["manual"] == "true"
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "manual" not in monitor.read()
    assert "was not written for 60 s" in str(monitor.mistake())


@pytest.mark.parametrize(
    "content",
    ["", "[", "{}" * 20_000, '{"battery": 7}', '{"battery": "full"}', '{"unknown": 1}', '{"battery": NaN}'],
)
def test_an_integrators_file_that_is_malformed_tells_nothing(
    monitor: MachineMonitor, told: Path, content: str
) -> None:
    for _ in range(2):
        write(told, content)
        facts = monitor.read()
    assert "battery" not in facts or facts["battery"] != "7"
    assert str(told) in str(monitor.mistake())


def test_an_integrators_file_that_is_none_is_not_waited_for(monitor: MachineMonitor, told: Path) -> None:
    monitor.read()
    os.mkfifo(told)
    assert "free_memory_bytes" in monitor.read()
    assert monitor.mistake() is not None
