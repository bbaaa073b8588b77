"""Topics: whose a message is, its topic alone tells."""

import pytest

from fededge.device.relay.topics import Topic

pytestmark = pytest.mark.environment("edge")

CLIMATE = Topic.of("building/{sensor}/climate")


def test_a_sensors_topic_is_its_own() -> None:
    assert CLIMATE.filter == "building/+/climate"
    assert CLIMATE.named("room-1") == "building/room-1/climate"
    assert CLIMATE.sensor("building/room-1/climate") == "room-1"
    assert CLIMATE.tree("room-1") == "building/room-1/"
    assert Topic.of("{sensor}").sensor("room-1") == "room-1"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "building/climate",
        "building//climate",
        "building/room-1/climate/more",
        "building/room-1/x/climate",
        "building/../climate",
        "building/-/climate",
        "building/+/climate",
        "building/room 1/climate",
        "building/room-1\n/climate",
        "other/room-1/climate",
        "building/" + "x" * 65 + "/climate",
    ],
)
def test_another_topic_is_nobodys(topic: str) -> None:
    assert CLIMATE.sensor(topic) is None
