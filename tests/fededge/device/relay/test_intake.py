"""Intake: what becomes of a message, and what a sensor may send."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.device.relay.file import load
from fededge.device.relay.intake import Intake, Message, Request
from fededge.device.relay.items import Labeling, Reading, Refusal
from fededge.device.relay.payload import Reason
from tests.relay_process import Relay, group, reading

pytestmark = pytest.mark.environment("edge")

TOPIC = "building/room-1/climate"


class Now:
    """Seconds that the test lets go by."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def intake(folder: Path, now: Now | None = None, known: Any = (), **changes: Any) -> Intake:
    return Intake(load(Relay(folder, 1883, group(**changes)).file).groups, known, now or Now())


def test_a_reading_is_its_features_and_its_label(tmp_path: Path) -> None:
    taken = intake(tmp_path).take(Message(TOPIC, reading(3, 20.5, 100, True).encode()))
    value = np.array([20.5, 100], "<f4").tobytes()
    assert taken == Reading("rooms", "room-1", 3, None, value, 1.0, again=False)


def test_a_label_comes_with_a_threshold(tmp_path: Path) -> None:
    take = intake(tmp_path, label={"field": "light", "above": 50}).take
    labels = [take(Message(TOPIC, reading(n, light=light).encode())) for n, light in enumerate((49, 50, 51))]
    assert [each.label for each in labels if isinstance(each, Reading)] == [0.0, 0.0, 1.0]


def test_a_label_that_is_none_of_the_classes_is_refused(tmp_path: Path) -> None:
    take = intake(tmp_path, label={"field": "number", "name": ""}).take
    assert isinstance(take(Message(TOPIC, reading(1).encode())), Reading)
    assert take(Message(TOPIC, reading(2).encode())) == Refusal("rooms", "room-1", Reason.bounds)


def test_a_later_label_has_its_own_topic(tmp_path: Path) -> None:
    rule = {
        "topic": "building/{sensor}/presence",
        "payload": {
            "kind": "json",
            "fields": [{"name": "at", "type": "int64"}, {"name": "people", "type": "int64"}],
        },
        "id": "at",
        "time": "at",
        "field": "people",
        "above": 0,
        "within": 60,
    }
    take = intake(tmp_path, label=rule | {"name": ""}).take
    taken = take(Message(TOPIC, b'{"number": 1, "temperature": 20, "light": 5}'))
    assert isinstance(taken, Reading)
    assert taken.label is None
    told = take(Message("building/room-1/presence", b'{"at": 100, "people": 2}', again=True))
    assert told == Labeling("rooms", "room-1", 100, 100, 1.0, 60, again=True)


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (Message("elsewhere", b""), Refusal("", "", Reason.unknown)),
        (Message("building/hall/climate", b""), Refusal("rooms", "", Reason.unknown)),
        (Message(TOPIC, reading(1).encode(), retained=True), Refusal("rooms", "room-1", Reason.retained)),
        (Message(TOPIC, b"x" * 4097), Refusal("rooms", "room-1", Reason.large)),
        (Message(TOPIC, b"\xff"), Refusal("rooms", "room-1", Reason.text)),
    ],
)
def test_what_is_refused_is_counted_for_whom_it_is_from(
    tmp_path: Path, message: Message, refusal: Refusal
) -> None:
    assert intake(tmp_path).take(message) == refusal


def test_who_sends_too_much_pays_alone(tmp_path: Path) -> None:
    now = Now()
    take = intake(tmp_path, now, quota={"per_second": 1, "burst": 3}).take
    flood = [take(Message(TOPIC, reading(n).encode())) for n in range(5)]
    assert [isinstance(each, Reading) for each in flood] == [True, True, True, False, False]
    assert flood[3] == Refusal("rooms", "room-1", Reason.fast)
    assert isinstance(take(Message("building/room-2/climate", reading(1).encode())), Reading)
    now.seconds = 1.0
    again = [take(Message(TOPIC, reading(n).encode())) for n in (5, 6)]
    assert [isinstance(each, Reading) for each in again] == [True, False]


def test_there_are_no_more_sensors_than_there_may_be(tmp_path: Path) -> None:
    known = [("rooms", "room-1"), ("rooms", "room-2")]
    take = intake(tmp_path, known=known, most_sensors=3).take
    for name, taken in (("room-1", True), ("room-3", True), ("room-4", False), ("room-2", True)):
        assert isinstance(take(Message(f"building/{name}/climate", reading(1).encode())), Reading) is taken
    assert take(Message("building/room-5/climate", b"")) == Refusal("rooms", "", Reason.crowded)


ASKED = {
    "request": "building/{sensor}/ask",
    "answer": "building/{sensor}/answer",
    "folder": "device",
    "task": "occupancy",
    "device_class": "room",
    "trusted_key": "key.pem",
}
QUESTION = json.dumps({"temperature": 20.5, "light": 100}).encode()


def test_a_request_names_where_it_is_answered_below_its_own_topic(tmp_path: Path) -> None:
    take = intake(tmp_path, inference=ASKED).take
    value = np.array([20.5, 100], "<f4").tobytes()
    plain = take(Message("building/room-1/ask", QUESTION))
    assert plain == Request("rooms", "room-1", value, None, "building/room-1/answer", None)
    named = take(
        Message("building/room-1/ask", QUESTION, response_topic="building/room-1/in/box", correlation=b"7")
    )
    assert named == Request("rooms", "room-1", value, None, "building/room-1/in/box", b"7")
    broken = take(Message("building/room-1/ask", b"{}"))
    assert broken == Request("rooms", "room-1", None, Reason.malformed, "building/room-1/answer", None)


@pytest.mark.parametrize(
    "topic",
    [
        "building/room-2/answer",
        "building/room-1",
        "building/room-1/",
        "building/room-1/+",
        "building/room-1/#",
        "building/room-1/climate",
        "building/room-1/ask",
        "building/room-11/answer",
        "$SYS/room-1/answer",
        "",
    ],
)
def test_a_response_topic_that_is_not_the_sensors_own_is_refused(tmp_path: Path, topic: str) -> None:
    take = intake(tmp_path, inference=ASKED).take
    message = Message("building/room-1/ask", QUESTION, response_topic=topic)
    assert take(message) == Refusal("rooms", "room-1", Reason.foreign)


def test_a_correlation_is_short(tmp_path: Path) -> None:
    take = intake(tmp_path, inference=ASKED).take
    message = Message("building/room-1/ask", QUESTION, correlation=b"x" * 257)
    assert take(message) == Refusal("rooms", "room-1", Reason.large)
