"""A relay that is killed at a named phase of its work: nothing acknowledged is lost, nothing is doubled or half there."""

import signal
from pathlib import Path

import pytest

from fededge import examples
from tests.mqtt_broker import Broker, Sensor
from tests.relay_process import Relay, group, reading

pytestmark = pytest.mark.environment("edge")

COUNT = 60
PHASES = {
    "the store is opened": "store.Store._adopt_groups",
    "the broker confirms the subscription": "connection.Connection._subscribed",
    "a message comes in": "connection.Connection._came",
    "a batch is read": "intake.Intake.take",
    "a batch is to be written": "store.Store.commit",
    "a message of a batch is written": "store.Store._inserted",
    "old messages are removed": "store.Store._thinned",
    "a batch is written but not committed": "store.Store._tick",
    "a batch is committed": "store.Store._settle",
    "a batch is to be acknowledged": "connection.Connection.acknowledge",
    "old messages are looked for": "store.Store.prune",
    "a version of a dataset is to be written": "datasets._write",
    "a version of a dataset is to be synced": "datasets._sync",
    "the link to a dataset is to be replaced": "datasets._point",
}
KILL = """
import os, signal
from fededge.device.relay import collector, connection, datasets, intake, store
collector.PRUNE_SECONDS = 0.0
def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
{place} = kill
"""


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_a_relay_that_is_killed_when(tmp_path: Path, phase: str) -> None:
    rule = {"new_examples": 10, "seconds_between": 0}
    kept = 40 if phase == "old messages are removed" else 10_000
    with Broker.start(tmp_path, ("room-1",)) as broker, Sensor(broker, "room-1") as sensor:
        relay = Relay(tmp_path, broker.port, group(dataset=rule, retention={"readings": kept}))
        relay.start()
        sensor.send("building/room-1/climate", reading(0))
        relay.keeps("room-1", 1)
        assert relay.end() == 0
        relay.start(said=None, prelude=KILL.format(place=PHASES[phase]))
        for number in range(1, COUNT):
            sensor.send("building/room-1/climate", reading(number), wait=False)
        sensor.settled()
        assert relay.ends() == -signal.SIGKILL
        dataset = relay.folder / "datasets" / "occupancy"
        if dataset.exists():
            assert len(examples.read(dataset / "train")[0])
        relay.start()
        relay.until(lambda known: relay.ids("room-1")[-1:] == [COUNT - 1])
        ids = relay.ids("room-1")
        assert ids == list(range(COUNT - len(ids), COUNT))
        assert len(ids) == COUNT if kept > COUNT else len(ids) >= 37
        assert relay.sensors()["room-1"].refused == {}
        relay.says("dataset occupancy")
        assert len(examples.read(dataset / "train")[0]) + len(examples.read(dataset / "test")[0]) >= 10
        assert relay.end() == 0
