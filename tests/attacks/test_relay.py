"""Sensors of an enemy: whatever one of them sends, the others are served, and what is stored is as declared."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given

from fededge.device.relay.file import load
from fededge.device.relay.intake import Intake, Message, Request
from fededge.device.relay.items import Item
from tests.attacks.hostile import mutants
from tests.mqtt_broker import Broker, Sensor
from tests.relay_process import Relay, group, reading

pytestmark = pytest.mark.environment("edge")

MINE, OTHERS = "building/room-1/climate", "building/room-2/climate"


class Scene:
    """A relay, an enemy who is the sensor room-1, and room-2, who is none."""

    def __init__(self, relay: Relay, broker: Broker, enemy: Sensor, friend: Sensor) -> None:
        self.relay, self.broker, self.enemy, self.friend = relay, broker, enemy, friend
        self._sent = 0

    def serves_the_other(self) -> None:
        """The reading that room-2 sends now is kept."""
        self._sent += 1
        self.friend.send(OTHERS, reading(self._sent))
        known = self.relay.keeps("room-2", self._sent)
        assert known.refused == {}
        assert self.relay.ids("room-2") == list(range(1, self._sent + 1))

    def counts(self, **refused: int) -> None:
        """So many messages of room-1 are refused, by reason (with _ for -)."""
        wanted = {reason.replace("_", "-"): count for reason, count in refused.items()}
        self.relay.until(lambda known: "room-1" in known and known["room-1"].refused == wanted)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Broker.start(tmp_path, ("room-1", "room-2")) as broker:
        rooms = group(quota={"per_second": 20, "burst": 100, "bytes": 512}, most_sensors=3)
        relay = Relay(tmp_path, broker.port, rooms)
        with relay.running(), Sensor(broker, "room-1") as enemy, Sensor(broker, "room-2") as friend:
            scene = Scene(relay, broker, enemy, friend)
            scene.serves_the_other()
            yield scene
            scene.serves_the_other()


def test_nobody_speaks_for_another_sensor(scene: Scene) -> None:
    for topic in (OTHERS, "building/room-3/climate", "building/room-2/presence"):
        scene.enemy.send(topic, reading(99))
    for topic in ("building/room-1/x/climate", "building/room-1/climate/room-2", "building/room-1//climate"):
        scene.enemy.send(topic, reading(99))
    scene.enemy.send(MINE, reading(1))
    scene.relay.keeps("room-1", 1)
    assert set(scene.relay.sensors()) <= {"room-1", "room-2", ""}


def test_what_lay_at_the_broker_before_is_no_reading(tmp_path: Path) -> None:
    with Broker.start(tmp_path, ("room-1", "room-2")) as broker, Sensor(broker, "room-1") as enemy:
        enemy.send(MINE, reading(1 << 62), retain=True)
        relay = Relay(tmp_path, broker.port)
        with relay.running(), Sensor(broker, "room-2") as friend:
            friend.send(OTHERS, reading(1))
            relay.keeps("room-2", 1)
            assert "room-1" not in relay.sensors()
            enemy.send(MINE, reading(2))
            relay.keeps("room-1", 1)


def test_large_payloads_are_refused_and_larger_ones_do_not_come(scene: Scene) -> None:
    scene.enemy.send(MINE, b"x" * 513)
    scene.enemy.send(MINE, b"x" * (100 << 10))
    scene.counts(too_large=2)
    scene.enemy.send(MINE, b"x" * (64 << 20))
    scene.serves_the_other()
    scene.counts(too_large=2)


def test_a_flood_is_paid_by_who_makes_it(scene: Scene) -> None:
    before = _memory(scene.relay)
    for number in range(5000):
        scene.enemy.send(MINE, reading(number), qos=number % 2, wait=False)
        if number % 1000 == 999:
            scene.serves_the_other()
    scene.enemy.settled()
    scene.serves_the_other()
    known = scene.relay.until(lambda known: sum(known["room-1"].refused.values()) > 3000)
    assert set(known["room-1"].refused) == {"too-fast"}
    assert known["room-1"].readings < 2000
    assert _memory(scene.relay) - before < 64 << 20


def test_a_replay_adds_nothing(scene: Scene) -> None:
    for number in range(10):
        scene.enemy.send(MINE, reading(number))
    scene.relay.keeps("room-1", 10)
    for number in range(10):
        scene.enemy.send(MINE, reading(number, temperature=-30))
    scene.counts(repeated=10)
    assert scene.relay.ids("room-1") == list(range(10))


LIES = [
    (b"\xff\xfe\x00", "not-text"),
    (b"", "malformed"),
    (b"[" * 500, "malformed"),
    (b'{"number": 1}', "malformed"),
    (reading(1, temperature="warm").encode(), "malformed"),
    (reading(1, occupied=2).encode(), "malformed"),
    (reading(1, temperature=1e9).encode(), "out-of-bounds"),
    (reading(1 << 63).encode(), "out-of-bounds"),
    (b'{"number": 1, "temperature": NaN, "light": 1, "occupied": true}', "malformed"),
]


def test_lies_about_the_schema_are_counted(scene: Scene) -> None:
    told: Counter[str] = Counter()
    for payload, reason in LIES:
        scene.enemy.send(MINE, payload)
        told[reason] += 1
        scene.counts(**told)
    assert scene.relay.ids("room-1") == []


def test_strangers_are_no_more_than_there_may_be(tmp_path: Path) -> None:
    with Broker.start(tmp_path) as broker:
        relay = Relay(tmp_path, broker.port, group(most_sensors=3))
        with relay.running(), Sensor(broker, "relay") as everybody:
            for number in range(50):
                everybody.send(f"building/room-{number}/climate", reading(1), wait=False)
            everybody.send("building/hall/climate", reading(1))
            relay.until(lambda known: sum(known[""].refused.values()) == 48 if "" in known else False)
            assert sorted(filter(None, relay.sensors())) == ["room-0", "room-1", "room-2"]
            assert relay.sensors()[""].refused == {"too-many-sensors": 47, "unknown-sensor": 1}


def test_a_sensor_that_vanishes_in_the_middle_of_a_message_is_missed_by_nobody(scene: Scene) -> None:
    scene.enemy.send(MINE, reading(1))
    scene.relay.keeps("room-1", 1)
    socket = scene.enemy.client.socket()
    assert socket
    socket.send(b"\x32\x7f\x00")  # the beginning of a message
    socket.close()
    scene.serves_the_other()


@given(mutants([reading(1).encode()]))
def test_any_payload_is_read_or_refused(intake: Intake, data: bytes) -> None:
    taken: Item | Request = intake.take(Message(MINE, data))
    assert taken


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Intake:
    return Intake(load(Relay(tmp_path_factory.mktemp("relay"), 1883).file).groups)


def _memory(relay: Relay) -> int:
    assert relay.process
    return psutil.Process(relay.process.pid).memory_info().rss
