"""Answers to sensors: by the release that a device runs, on the sensor's own topic."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fededge.device.agent import Agent
from fededge.device.installation import Installation
from fededge.device.policy_keys import Limits
from fededge.device.relay.model import CurrentModel
from fededge.device.relay.settings import Inference
from fededge.device.transport import BlobTransport
from fededge.documents import Feature, Label, Schema
from fededge.errors import FedEdgeError
from fededge.inference import load_model
from fededge.signing import TrustedKey
from tests.enrolled_site import in_loop
from tests.following_device import FIRST, LOOPING, Device, failed, offered, runs, signed, told
from tests.mqtt_broker import Broker, Sensor
from tests.published_fleet import FIXTURES, examples, fleet  # noqa: F401
from tests.relay_process import Relay
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")

ASK, ANSWER = "building/room-1/ask", "building/room-1/answer"


def cameras(fleet: Any, folder: Path | None, **dataset: Any) -> dict[str, Any]:  # noqa: F811
    """A group of sensors whose readings are 4x4 images of three classes; a device in `folder` answers, or the relay."""
    fields = [
        {"name": "number", "type": "int64"},
        {"name": "image", "shape": [4, 4, 1] if not dataset else [2]},
        {"name": "what", "categories": ["ant", "bee", "cat"]},
    ]
    return {
        "name": "cameras",
        "sensors": ["room-*"],
        "topic": "building/{sensor}/image",
        "payload": {"kind": "json", "fields": fields},
        "reading": {"id": "number"},
        "label": {"field": "what"},
        "dataset": {"name": "images", "features": ["image"], **dataset},
        "inference": {
            "request": "building/{sensor}/ask",
            "answer": "building/{sensor}/answer",
            "folder": folder and str(folder),
            "task": "tiny",
            "device_class": "camera",
            "trusted_key": str(fleet.trusted_key),
        },
    }


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.start(tmp_path, ("room-1", "room-2")) as broker:
        yield broker


def follow(fleet: Any, folder: Path, version: int, model: str) -> str:  # noqa: F811
    """Let a device in `folder` install a release; its name."""
    fleet.publish(version, model)
    trusted = TrustedKey.load(fleet.trusted_key)
    with closing(Installation(folder, "tiny", "camera", trusted)) as installation:
        agent = Agent("camera-0", "camera", installation, BlobTransport(fleet.root, "tiny"))
        agent.restore()
        assert agent.poll().status == "running"
        return installation.names()[0]


def test_a_sensor_is_answered_by_the_release_that_is_current(
    tmp_path: Path,
    broker: Broker,
    fleet: Any,  # noqa: F811
    examples: Any,  # noqa: F811
) -> None:
    device = tmp_path / "device"
    relay = Relay(tmp_path, broker.port, cameras(fleet, device))
    images, labels = examples
    question = json.dumps({"image": images[0].ravel().tolist()})
    with relay.running(), Sensor(broker, "room-1") as sensor:
        sensor.listen("building/room-1/#")
        sensor.send(ASK, question)
        assert json.loads(answers(sensor, 1)[-1]) == {"error": "no-model"}
        first = follow(fleet, device, 1, "first")
        for number, image in enumerate(images[:5]):
            sensor.send(ASK, json.dumps({"image": image.ravel().tolist()}))
            told = json.loads(answers(sensor, number + 2)[-1])
            assert told["release"] == first
            assert told["label"] == ["ant", "bee", "cat"][labels[number]]
            assert sum(told["probabilities"].values()) == pytest.approx(1)
        second = follow(fleet, device, 2, "second")
        sensor.send(ASK, question)
        assert json.loads(answers(sensor, 7)[-1])["release"] == second
        sensor.send(ASK, json.dumps({"image": [0.5]}))
        assert json.loads(answers(sensor, 8)[-1]) == {"error": "malformed"}
        assert relay.sensors()["room-1"].refused == {"malformed": 1}


def test_a_request_of_mqtt_5_is_answered_where_it_says(
    tmp_path: Path,
    broker: Broker,
    fleet: Any,  # noqa: F811
) -> None:
    relay = Relay(tmp_path, broker.port, cameras(fleet, None))
    follow(fleet, relay.folder / "releases" / "tiny", 1, "first")
    question = json.dumps({"image": [0.5] * 16})
    with relay.running(), Sensor(broker, "room-1") as sensor, Sensor(broker, "room-2") as other:
        sensor.listen("building/room-1/in/#")
        other.listen("building/room-2/#")
        sensor.send(ASK, question, answer="building/room-2/answer", correlation=b"stolen")
        sensor.send(ASK, question, answer="building/room-1/image", correlation=b"loop")
        sensor.send(ASK, question, answer="building/room-1/in/box", correlation=b"\x00\x07")
        ((topic, _, correlation),) = sensor.hears()
        assert (topic, correlation) == ("building/room-1/in/box", b"\x00\x07")
        relay.until(lambda known: known["room-1"].refused == {"foreign-response-topic": 2})
        assert other.heard == []


def test_a_window_ends_with_the_reading_that_is_asked_about(
    tmp_path: Path,
    broker: Broker,
    fleet: Any,  # noqa: F811
) -> None:
    """A model of 4x4 images does not take windows of 8x2, and is not asked."""
    device = tmp_path / "device"
    relay = Relay(tmp_path, broker.port, cameras(fleet, device, window=8))
    follow(fleet, device, 1, "first")
    with relay.running(), Sensor(broker, "room-1") as sensor:
        sensor.listen(ANSWER)
        sensor.send(ASK, json.dumps({"image": [1, 2]}))
        assert json.loads(sensor.hears(1)[-1][1]) == {"error": "too-few-readings"}
        for number in range(7):
            said = {"number": number, "image": [number, -number], "what": "bee"}
            sensor.send("building/room-1/image", json.dumps(said))
        relay.keeps("room-1", 7)
        sensor.send(ASK, json.dumps({"image": [1, 2]}))
        assert json.loads(sensor.hears(2)[-1][1]) == {"error": "no-model"}
        assert "says [8, 2] and 3" in relay.says("does not answer")


def test_a_release_that_was_changed_does_not_answer(
    tmp_path: Path,
    broker: Broker,
    fleet: Any,  # noqa: F811
) -> None:
    device = tmp_path / "device"
    relay = Relay(tmp_path, broker.port, cameras(fleet, device))
    name = follow(fleet, device, 1, "first")
    model = device / "releases" / name / "model"
    model.write_bytes(np.frombuffer(model.read_bytes(), np.uint8)[::-1].tobytes())
    with relay.running(), Sensor(broker, "room-1") as sensor:
        sensor.listen(ANSWER)
        sensor.send(ASK, json.dumps({"image": [0.5] * 16}))
        assert json.loads(sensor.hears(1)[-1][1]) == {"error": "no-model"}
        relay.says("the release that is current does not answer")


def test_a_release_that_hangs_gives_way_to_the_one_before(
    tmp_path: Path,
    fleet: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fededge.device.relay.model.LIMITS", Limits(memory_bytes=512 << 20, seconds=4))
    device = tmp_path / "device"
    first, looping = (
        follow(fleet, device, version, name) for version, name in ((1, "first"), (2, "looping"))
    )
    rule = Inference.model_validate(cameras(fleet, device)["inference"])
    label, faults = Label(kind="class", classes=3), []

    def tell(task: str, release: str, error: FedEdgeError) -> None:
        faults.append((task, release))

    image = Schema(features=[Feature(name="image", dtype="float32", shape=[4, 4, 1])], label=label)
    with closing(CurrentModel(rule, tmp_path, tmp_path / "relay", image, tell)) as model:
        dark, bright = np.zeros((1, 4, 4, 1), np.float32), np.full((1, 4, 4, 1), 9.0, np.float32)
        assert model.predict(dark) is not None
        assert model.release == looping
        outputs = model.predict(bright)
        assert outputs is not None
        assert (model.release, faults) == (first, [("tiny", looping)])
        np.testing.assert_array_equal(
            outputs, load_model((FIXTURES / "first.tflite").read_bytes()).predict(bright)
        )
        third = follow(fleet, device, 3, "second")
        assert model.predict(bright) is not None
        assert model.release == third


SOON = "from fededge.device.relay import model\nmodel.LIMITS = model.LIMITS.model_copy(update={'seconds': 4})"


@pytest.mark.slow
def test_a_release_of_the_relays_own_that_hangs_is_told_and_remembered(
    tmp_path: Path, broker: Broker
) -> None:
    device = Device(tmp_path)
    device.folder = tmp_path / "relay"
    trusted = SimpleNamespace(trusted_key=tmp_path / "release.pub.pem")
    relay = Relay(tmp_path, broker.port, cameras(trusted, None))
    question = json.dumps({"image": [9.0] * 16})

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            await device.enroll(gateway)
            policy = str(device.policy_file)
            await asyncio.to_thread(relay.start, "--policy", policy, prelude=SOON, runner=device.runner)
            await told(gateway, runs(1))
            await offered(gateway, signed(2, LOOPING), LOOPING)
            await told(gateway, runs(2))
            with Sensor(broker, "room-1") as sensor:
                sensor.listen(ANSWER)
                sensor.send(ASK, question)
                ((_, answer, _),) = await asyncio.to_thread(sensor.hears, 1)
            assert json.loads(answer)["release"].startswith("1-")
            assert (await told(gateway, failed("no answer within the 4 s"))).version == 1
            assert await asyncio.to_thread(relay.end) == 0
            gateway.said.clear()
            await asyncio.to_thread(relay.start, "--policy", policy, runner=device.runner)
            assert (await told(gateway, failed("was tried here before"))).version == 1
            assert await asyncio.to_thread(relay.end) == 0

    in_loop(scenario)


def answers(sensor: Sensor, count: int) -> list[bytes]:
    """What came on the sensor's answer topic, once there are `count`; what it sent itself comes back, too."""
    sensor.hears(2 * count)
    return [payload for topic, payload, _ in sensor.heard if topic == ANSWER]
