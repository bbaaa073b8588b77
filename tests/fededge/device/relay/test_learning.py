"""A relay with a policy: it learns from what it collected, as a site does."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fededge.protocol import Bye, Decline, Heartbeat, Hello, ReportMessage
from tests.enrolled_site import EnrolledSite, in_loop
from tests.mqtt_broker import Broker, Sensor
from tests.relay_process import Relay, group, reading
from tests.stand_in_gateway import StandInGateway, plan_zip

pytestmark = pytest.mark.environment("edge")


def said_new(gateway: StandInGateway) -> str | None:
    """How many new examples the relay said last that it has."""
    told = [message.conditions for message in gateway.said if isinstance(message, Hello | Heartbeat)]
    return next((each["new_examples"] for each in reversed(told) if each and "new_examples" in each), None)


def kill_runner(relay: Relay, began: Path) -> None:
    """Kill the runner of a relay, once it works, as the kernel does where memory is short."""
    deadline = time.monotonic() + 60
    while not began.exists():
        assert time.monotonic() < deadline, relay.log
        time.sleep(0.01)
    assert relay.process
    for child in psutil.Process(relay.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()


def test_a_relay_learns_from_what_it_collected_also_after_its_runner_was_killed(tmp_path: Path) -> None:
    rooms = group(dataset={"new_examples": 60, "test": 0.1, "seconds_between": 0})
    site = EnrolledSite(tmp_path)
    site.folder = tmp_path / "relay"
    site.write_policy(datasets={"steps": "relay/datasets/occupancy"})

    async def scenario() -> None:
        with Broker.start(tmp_path, ("room-1",)) as broker:
            relay = Relay(tmp_path, broker.port, rooms)
            async with StandInGateway() as gateway:
                gateway.heartbeat_seconds = 1.0
                await site.enroll(gateway)
                await asyncio.to_thread(relay.start, "--policy", str(site.policy_file), runner=site.runner)
                await gateway.hears(Hello)
                assert gateway.heard(Hello)[0].datasets == []
                with Sensor(broker, "room-1") as sensor:
                    for number in range(60):
                        sensor.send("building/room-1/climate", reading(number), wait=False)
                    hello = await gateway.hears(Hello, 2)
                (told,) = hello.datasets
                assert (told.name, told.train + told.test) == ("steps", 60)
                await gateway.until(lambda: said_new(gateway) == "60")
                await gateway.tell(gateway.order(conditions={"min_new_examples": 60}))
                assert (await gateway.hears(ReportMessage)).failure is None
                await gateway.until(lambda: relay.conditions()["new_examples"] == 0 or None)
                await gateway.tell(gateway.order(2, conditions={"min_new_examples": 1}))
                assert "new_examples" in (await gateway.hears(Decline)).reason
                began = relay.folder / "runner" / "files" / "began"
                began.unlink()
                await gateway.tell(gateway.order(3, plan=plan_zip(do="wait")))
                await asyncio.to_thread(kill_runner, relay, began)
                assert "the runner ended" in str((await gateway.hears(ReportMessage, 2)).failure)
                await gateway.tell(gateway.order(4))
                assert (await gateway.hears(ReportMessage, 3)).failure is None
                assert await asyncio.to_thread(relay.end) == 0
                assert gateway.heard(Bye)[-1].reason == "ENDING"

    in_loop(scenario)
