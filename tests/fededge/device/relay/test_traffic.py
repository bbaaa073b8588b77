"""A relay beside a real broker: what is acknowledged is kept, once, whatever ends in the middle."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fededge import examples
from tests.mqtt_broker import Broker, Sensor
from tests.relay_process import Relay, group, reading

pytestmark = pytest.mark.environment("edge")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.start(tmp_path) as broker:
        broker.allow("room-1")
        broker.allow("room-2")
        broker.end()
        broker.run()
        yield broker


def test_readings_of_each_sensor_are_kept_and_told(tmp_path: Path, broker: Broker) -> None:
    with Relay(tmp_path, broker.port).running() as relay, Sensor(broker, "room-1") as one, Sensor(broker, "room-2") as two:
        for number in range(20):
            one.send("building/room-1/climate", reading(number))
            two.send("building/room-2/climate", reading(number, occupied=False), qos=0)
        relay.until(lambda known: sum(each.readings for each in known.values()) == 40)
        assert relay.ids("room-1") == relay.ids("room-2") == list(range(20))
        assert not any(each.refused for each in relay.sensors().values())
        assert relay.end() == 0
