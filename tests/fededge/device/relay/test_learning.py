"""A relay with a policy: it learns from what it collected, as a site does."""

import asyncio
from pathlib import Path

import pytest

from fededge.protocol import Bye, Decline, Hello, ReportMessage
from tests.enrolled_site import EnrolledSite, in_loop
from tests.mqtt_broker import Broker, Sensor
from tests.relay_process import Relay, group, reading
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")


def test_a_relay_learns_from_what_it_collected(tmp_path: Path) -> None:
    rooms = group(dataset={"new_examples": 40, "test": 0.1, "seconds_between": 0})
    site = EnrolledSite(tmp_path)
    site.folder = tmp_path / "relay"
    site.write_policy(datasets={"steps": "relay/datasets/occupancy"})

    async def scenario() -> None:
        with Broker.start(tmp_path, ("room-1",)) as broker:
            relay = Relay(tmp_path, broker.port, rooms)
            async with StandInGateway() as gateway:
                await site.enroll(gateway)
                await asyncio.to_thread(relay.start, "--policy", str(site.policy_file), runner=site.runner)
                await gateway.hears(Hello)
                assert gateway.heard(Hello)[0].datasets == []
                with Sensor(broker, "room-1") as sensor:
                    for number in range(60):
                        sensor.send("building/room-1/climate", reading(number), wait=False)
                    await asyncio.to_thread(relay.says, "dataset occupancy")
                assert await asyncio.to_thread(relay.end) == 0
                await asyncio.to_thread(relay.start, "--policy", str(site.policy_file), runner=site.runner)
                hello = await gateway.hears(Hello, 2)
                (told,) = hello.datasets
                assert (told.name, told.train + told.test) == ("steps", 60)
                assert hello.conditions["new_examples"] == "60"
                await gateway.tell(gateway.order(conditions={"min_new_examples": 60}))
                assert (await gateway.hears(ReportMessage)).failure is None
                await gateway.until(lambda: relay.conditions()["new_examples"] == 0 or None)
                await gateway.tell(gateway.order(2, conditions={"min_new_examples": 1}))
                assert "new_examples" in (await gateway.hears(Decline)).reason
                assert await asyncio.to_thread(relay.end) == 0
                assert gateway.heard(Bye)[-1].reason == "ENDING"

    in_loop(scenario)
