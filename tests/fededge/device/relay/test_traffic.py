"""A relay beside a real broker: what is acknowledged is kept, once, whatever ends in the middle."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fededge.device import facts
from fededge.device.relay.command import main
from tests.mqtt_broker import Broker, Sensor
from tests.relay_process import Relay, group, reading
from tests.stand_in_gateway import certificate

pytestmark = pytest.mark.environment("edge")

TOPIC = "building/room-1/climate"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.start(tmp_path, ("room-1", "room-2")) as broker:
        yield broker


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def sending(sensor: Sensor, count: int, every: float = 0.002) -> Iterator[threading.Event]:
    """`count` readings are sent while the block lasts, and all have been when it ends; the event: half of them were."""
    half, go = threading.Event(), threading.Event()

    def send() -> None:
        for number in range(count):
            sensor.send(TOPIC, reading(number), wait=False)
            if number == count // 2:
                half.set()
            go.wait(every)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield half
    finally:
        thread.join()
        sensor.settled()


def test_readings_of_each_sensor_are_kept_and_told(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = Relay(tmp_path, broker.port)
    with relay.running(), Sensor(broker, "room-1") as one, Sensor(broker, "room-2") as two:
        for number in range(20):
            one.send("building/room-1/climate", reading(number))
            two.send("building/room-2/climate", reading(number, occupied=False), qos=0)
        two.send("building/room-2/climate", "{}")
        known = relay.until(
            lambda known: sum(each.readings + len(each.refused) for each in known.values()) == 41
        )
        assert relay.ids("room-1") == relay.ids("room-2") == list(range(20))
        assert known["room-2"].refused == {"malformed": 1}
        assert relay.end() == 0
    assert main(["status", "--folder", str(relay.folder), "--json"], []) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labeled"] == {"rooms": 40}
    assert [(each["name"], each["readings"]) for each in told["sensors"]] == [("room-1", 20), ("room-2", 20)]
    assert main(["status", "--folder", str(relay.folder)], []) == 0
    assert "rooms/room-2: 20 readings" in capsys.readouterr().out


def test_what_comes_while_the_relay_is_away_is_kept_by_the_broker(tmp_path: Path, broker: Broker) -> None:
    relay = Relay(tmp_path, broker.port)
    with Sensor(broker, "room-1") as sensor:
        with relay.running():
            sensor.send(TOPIC, reading(0))
            relay.keeps("room-1", 1)
        for number in range(1, 300):
            sensor.send(TOPIC, reading(number), wait=False)
        sensor.settled()
        with relay.running():
            relay.keeps("room-1", 300)
    assert relay.sensors()["room-1"].refused == {}


def test_a_relay_that_is_killed_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, broker: Broker
) -> None:
    relay = Relay(tmp_path, broker.port)
    with Sensor(broker, "room-1") as sensor, relay.running():
        with sending(sensor, 1500, every=0.004):
            for kept in (50, 300, 700):
                relay.keeps("room-1", kept, more=True)
                relay.end(signal.SIGKILL)
                relay.start()
        relay.keeps("room-1", 1500)
        assert relay.ids("room-1") == list(range(1500))
        assert relay.sensors()["room-1"].refused == {}


def test_a_broker_that_is_killed_in_the_middle_costs_nothing_that_was_kept(
    tmp_path: Path, broker: Broker
) -> None:
    relay = Relay(tmp_path, broker.port)
    with relay.running(), Sensor(broker, "room-1") as sensor:
        with sending(sensor, 1000) as half:
            half.wait()
            broker.end(signal.SIGKILL)
            kept = relay.ids("room-1")
            broker.run()
        for number in range(
            1000
        ):  # nobody can know what a killed broker had: a sensor repeats what it still has
            sensor.send(TOPIC, reading(number), wait=False)
        sensor.settled()
        last = relay.keeps("room-1", 1000)
        assert relay.ids("room-1")[: len(kept)] == kept
        assert relay.ids("room-1") == list(range(1000))
        assert set(last.refused) <= {"repeated"}


def test_a_broker_that_is_away_for_a_while_is_found_again(tmp_path: Path, broker: Broker) -> None:
    relay = Relay(tmp_path, broker.port)
    with relay.running(), Sensor(broker, "room-1") as sensor:
        sensor.send(TOPIC, reading(0))
        relay.keeps("room-1", 1)
        since = len(relay.log)
        broker.end()
        relay.says("the connection to", since)
        for number in range(1, 100):
            sensor.send(TOPIC, reading(number), wait=False)
        relay.says("cannot be reached", since)
        broker.run()
        relay.keeps("room-1", 100)
        assert relay.sensors()["room-1"].refused == {}


def test_a_full_disk_leaves_messages_with_the_broker(
    tmp_path: Path, broker: Broker, small_disk: Path
) -> None:
    relay = Relay(tmp_path, broker.port)
    relay.folder = small_disk / "relay"
    with Sensor(broker, "room-1") as sensor, relay.running():
        sensor.send(TOPIC, reading(0))
        relay.keeps("room-1", 1)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        for number in range(1, 1200):
            sensor.send(TOPIC, reading(number), wait=False)
        relay.says("the broker keeps what comes meanwhile")
        relay.end(signal.SIGKILL)
        ballast.unlink()
        relay.start()
        sensor.settled()
        relay.keeps("room-1", 1200)
        assert relay.ids("room-1") == list(range(1200))


def test_a_later_message_labels_readings_by_time(tmp_path: Path, broker: Broker) -> None:
    said = [{"name": "at", "type": "int64"}, {"name": "present", "type": "bool"}]
    rule = {
        "topic": "building/{sensor}/presence",
        "payload": {"kind": "json", "fields": said},
        "id": "at",
        "time": "at",
        "field": "present",
        "classes": ["empty", "occupied"],
        "within": 10,
    }
    rooms = group(label=rule, reading={"time": "number"}, dataset={"new_examples": 5, "test": 0})
    relay = Relay(tmp_path, broker.port, rooms)
    with relay.running(), Sensor(broker, "room-1") as sensor:
        for number in range(0, 60, 5):
            sensor.send(TOPIC, json.dumps({"number": number, "temperature": 20, "light": number}))
        sensor.send("building/room-1/presence", json.dumps({"at": 20, "present": True}))
        sensor.send("building/room-1/presence", json.dumps({"at": 55, "present": False}))
        relay.says("dataset occupancy: 6 training and 0 test examples")
        told = facts.dataset("occupancy", relay.folder / "datasets" / "occupancy")
        assert (told.train, told.test) == (6, 0)
        assert relay.conditions()["new_examples"] == 6


def test_a_second_relay_in_the_same_folder_is_refused(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = Relay(tmp_path, broker.port)
    with relay.running():
        assert main(["run", "--relay", str(relay.file), "--folder", str(relay.folder)], []) == 2
        assert "another relay runs in" in capsys.readouterr().err


def test_a_relay_without_the_right_password_says_so_and_tries_again(tmp_path: Path, broker: Broker) -> None:
    relay = Relay(tmp_path, broker.port)
    (tmp_path / "password").write_text("wrong")
    relay.start(said="refuses this relay")
    (tmp_path / "password").unlink()
    assert relay.end() == 0


def test_a_broker_and_a_relay_prove_themselves_by_certificates(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "tls", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
        certificate(folder)
    with Broker.start(tmp_path, ("room-1",), here, required=True) as broker:
        own = {"certificate_file": "tls/ca.pem", "key_file": "tls/ca-key.pem", "ca_file": "tls/ca.pem"}
        relay = Relay(tmp_path, broker.port, host="localhost", plain=False, **own)
        with relay.running(), Sensor(broker, "room-1", here) as sensor:
            sensor.send(TOPIC, reading(1))
            relay.keeps("room-1", 1)
        own["ca_file"] = "elsewhere/ca.pem"
        stranger = Relay(tmp_path, broker.port, host="localhost", plain=False, **own)
        stranger.start(said="cannot be reached")
        assert stranger.end() == 0


def test_check_tells_what_a_file_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relay = Relay(tmp_path, 1883)
    assert main(["check", str(relay.file)], []) == 0
    told = capsys.readouterr().out
    assert "building/+/climate" in told
    assert "occupancy: examples [2], label class occupancy, sha256:" in told
    relay.file.write_text("broker: 1")
    assert main(["check", str(relay.file)], []) == 2
    assert main(["status", "--folder", str(tmp_path)], []) == 2
    assert capsys.readouterr().err.count("error: ") == 2
