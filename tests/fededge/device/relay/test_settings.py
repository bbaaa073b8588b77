"""The relay's file: read strictly, and a mistake is told with its line and key."""

from pathlib import Path
from typing import Any

import pytest

from fededge.device.relay.file import load
from fededge.device.relay.schema import schema_of
from fededge.errors import RelayError
from tests.relay_process import GROUP, Relay, group

pytestmark = pytest.mark.environment("edge")

LATER = {
    "topic": "building/{sensor}/presence",
    "payload": {
        "kind": "json",
        "fields": [{"name": "at", "type": "int64"}, {"name": "present", "type": "bool"}],
    },
    "id": "at",
    "time": "at",
    "field": "present",
    "within": 60,
    "classes": ["no", "yes"],
}
ASKED = {
    "request": "a/{sensor}/ask",
    "answer": "a/{sensor}/answer",
    "folder": "d",
    "task": "t",
    "device_class": "c",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "groups.0.colour: there is no such key"),
        ({"topic": "building/climate"}, "one level is {sensor}"),
        ({"topic": "building/{sensor}/#"}, "one level is {sensor}"),
        ({"topic": "building/x{sensor}/climate"}, "one level is {sensor}"),
        ({"topic": "$SYS/{sensor}"}, "one level is {sensor}"),
        ({"sensors": []}, "groups.0.sensors"),
        (
            {"payload": {"kind": "xml"}},
            "groups.0.payload.kind: Input should be 'json' or 'binary' (found 'xml')",
        ),
        ({"payload": {"kind": "json", "fields": [{"name": "n", "type": "int16"}]}}, "JSON has the types"),
        (
            {"payload": {"kind": "json", "fields": [{"name": "n", "low": 2, "high": 1}]}},
            "low 2.0 lies above high 1.0",
        ),
        (
            {"payload": {"kind": "binary", "fields": [{"name": "n", "path": "a"}]}},
            "a binary payload has no paths",
        ),
        ({"payload": {"kind": "json", "fields": [{"name": "n"}, {"name": "n"}]}}, "two fields 'n'"),
        ({"reading": {"id": "temperature"}}, "'temperature' is no whole number"),
        ({"reading": {"id": "nothing"}}, "there is no field 'nothing'"),
        ({"reading": {"time": "nothing"}}, "there is no field 'nothing'"),
        ({"label": {"field": "light"}}, "'light' is no whole number, which classes are told by"),
        ({"label": {"above": 1, "classes": []}}, "`above` tells two apart"),
        ({"label": {"classes": ["one"]}}, "one alone is nothing to learn"),
        ({"label": {"topic": "building/{sensor}/presence"}}, "payload is missing"),
        ({"label": LATER | {"id": "present"}}, "label.id: 'present' is no whole number"),
        ({"dataset": {"features": ["warmth"]}}, "there is no field 'warmth'"),
        ({"dataset": {"test": 1.0}}, "groups.0.dataset.test"),
        ({"dataset": {"name": "../x"}}, "groups.0.dataset.name"),
        ({"quota": {"bytes": 1 << 30}}, "groups.0.quota.bytes"),
        ({"retention": {"seconds": 0}}, "groups.0.retention.seconds"),
        ({"inference": ASKED}, "groups.0.inference.trusted_key"),
    ],
)
def test_a_mistake_is_told_by_its_key_in_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    relay = Relay(tmp_path, 1883, group(**changes))
    with pytest.raises(RelayError) as refused:
        load(relay.file)
    assert message in str(refused.value)
    assert str(relay.file) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("broker", "message"),
    [
        ({"ca_file": "ca.pem"}, "plain is without TLS"),
        ({"plain": False, "certificate_file": "x.pem"}, "certificate_file and key_file go together"),
        ({"user": None}, "password_file goes with user"),
        ({"client_id": "a/b"}, "broker.client_id"),
        ({"keepalive": 0}, "broker.keepalive"),
    ],
)
def test_a_broker_that_cannot_be_is_refused(tmp_path: Path, broker: dict[str, Any], message: str) -> None:
    relay = Relay(tmp_path, 1883, **broker)
    with pytest.raises(RelayError, match=message):
        load(relay.file)


@pytest.mark.parametrize("key", ["name", "dataset", "topic"])
def test_groups_share_neither_name_nor_dataset_nor_topic(tmp_path: Path, key: str) -> None:
    other = group(name="halls", topic="halls/{sensor}/climate", dataset={"name": "halls"})
    relay = Relay(tmp_path, 1883, GROUP, other | {key: GROUP[key]})
    with pytest.raises(RelayError, match=f"groups.1.{key}.* is used by groups.0, too"):
        load(relay.file)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    with pytest.raises(RelayError, match="cannot be read"):
        load(path)
    for text in (b"\xff", b"a: *b", b"[]"):
        path.write_bytes(text)
        with pytest.raises(RelayError, match=r"relay\.yaml"):
            load(path)


def test_the_schema_is_that_of_the_same_columns_in_a_table(tmp_path: Path) -> None:
    relay = Relay(tmp_path, 1883, GROUP)
    (rooms,) = load(relay.file).groups
    schema = schema_of(rooms)
    assert [(each.name, each.dtype, each.unit, each.shape) for each in schema.features] == [
        ("temperature", "float32", "C", []),
        ("light", "float32", "lx", []),
    ]
    assert (schema.label.kind, schema.label.name, schema.label.names) == (
        "class",
        "occupancy",
        ["empty", "occupied"],
    )


@pytest.mark.parametrize(
    ("changes", "shape", "kind"),
    [
        ({"dataset": {"features": []}}, (2,), "class"),
        ({"dataset": {"window": 6}}, (6, 2), "class"),
        ({"label": {"field": "light", "name": "", "above": 50}}, (2,), "class"),
        ({"label": {"field": "light", "name": "", "classes": []}}, (2,), "number"),
        ({"label": LATER}, (2,), "class"),
        ({"label": None}, (2,), "none"),
    ],
)
def test_examples_follow_from_dataset_and_label(
    tmp_path: Path, changes: dict[str, Any], shape: tuple[int, ...], kind: str
) -> None:
    relay = Relay(tmp_path, 1883, group(**changes))
    (rooms,) = load(relay.file).groups
    assert schema_of(rooms).shape == shape
    assert schema_of(rooms).label.kind == kind


@pytest.mark.parametrize(
    ("sensors", "filters"),
    [
        (["room-1", "room-2"], {"building/room-1/climate", "building/room-2/climate"}),
        (["room-1", "hall-*"], {"building/+/climate"}),
    ],
)
def test_a_relay_listens_to_no_more_than_its_sensors(
    tmp_path: Path, sensors: list[str], filters: set[str]
) -> None:
    (rooms,) = load(Relay(tmp_path, 1883, group(sensors=sensors)).file).groups
    assert rooms.filters == filters
