"""Payloads: what a sensor sends is read by the declared schema, or refused with a reason."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge.device.relay.payload import Payload, Reason, Refused

pytestmark = pytest.mark.environment("edge")

JSON = Payload.model_validate(
    {
        "kind": "json",
        "fields": [
            {"name": "number", "type": "int64"},
            {"name": "temperature", "path": "climate.temperature", "low": -40, "high": 85},
            {"name": "window", "categories": ["closed", "open"]},
            {"name": "lit", "type": "bool"},
            {"name": "steps", "shape": [3]},
        ],
    }
)
BINARY = Payload.model_validate(
    {
        "kind": "binary",
        "fields": [
            {"name": "number", "type": "int64"},
            {"name": "temperature", "type": "int16", "scale": 0.01, "low": -40, "high": 85},
            {"name": "window", "type": "uint8", "categories": ["closed", "open"]},
            {"name": "lit", "type": "bool"},
            {"name": "steps", "type": "float32", "shape": [3]},
        ],
    }
)
SAID = {
    "number": 7,
    "climate": {"temperature": 21.5},
    "window": "open",
    "lit": True,
    "steps": [1, 2.5, 3],
    "more": None,
}
READ = {"number": 7, "temperature": 21.5, "window": 1, "lit": 1, "steps": [1.0, 2.5, 3.0]}
NAMES = list(READ)


def packed(
    number: int = 7, temperature: int = 2150, window: int = 1, lit: bool = True, *steps: float
) -> bytes:
    return struct.pack("<qhB?3f", number, temperature, window, lit, *(steps or (1, 2.5, 3)))


def refused(payload: Payload, data: bytes) -> Reason:
    with pytest.raises(Refused) as why:
        payload.read(data, NAMES)
    return why.value.reason


def test_json_and_bytes_say_the_same() -> None:
    assert JSON.read(json.dumps(SAID).encode(), NAMES) == READ
    assert BINARY.read(packed(), NAMES) == READ


def test_only_what_is_wanted_has_to_be_there() -> None:
    assert JSON.read(b'{"lit": false}', ["lit"]) == {"lit": 0}
    assert BINARY.read(packed(), ["number"]) == {"number": 7}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number": 7.0}, Reason.malformed),
        ({"number": True}, Reason.malformed),
        ({"number": "7"}, Reason.malformed),
        ({"number": 1 << 63}, Reason.bounds),
        ({"climate": 21.5}, Reason.malformed),
        ({"climate": {}}, Reason.malformed),
        ({"climate": {"temperature": None}}, Reason.malformed),
        ({"climate": {"temperature": 85.1}}, Reason.bounds),
        ({"climate": {"temperature": -(10**400)}}, Reason.bounds),
        ({"window": "ajar"}, Reason.bounds),
        ({"window": 1}, Reason.malformed),
        ({"window": ["open"]}, Reason.malformed),
        ({"lit": 1}, Reason.malformed),
        ({"steps": [1, 2]}, Reason.malformed),
        ({"steps": [1, 2, [3]]}, Reason.malformed),
        ({"steps": [1, 2, 1e39]}, Reason.bounds),
    ],
)
def test_json_that_is_not_as_declared_is_refused(change: dict[str, Any], reason: Reason) -> None:
    assert refused(JSON, json.dumps(SAID | change).encode()) == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.malformed),
        (b"\xff\xfe", Reason.text),
        (b"[" * 4000, Reason.malformed),
        (b'{"number": NaN}', Reason.malformed),
        (b'{"number": Infinity}', Reason.malformed),
        (b'{"number": ' + b"1" * 5000 + b"}", Reason.malformed),
        (b"[]", Reason.malformed),
        (b"null", Reason.malformed),
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes, reason: Reason) -> None:
    assert refused(JSON, data) == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packed()[:-1], Reason.malformed),
        (packed() + b"\0", Reason.malformed),
        (packed(temperature=9000), Reason.bounds),
        (packed(window=2), Reason.bounds),
        (packed(7, 2150, 1, True, 1, 2, float("nan")), Reason.bounds),
        (packed(7, 2150, 1, True, 1, 2, float("inf")), Reason.bounds),
    ],
)
def test_bytes_that_are_not_as_declared_are_refused(data: bytes, reason: Reason) -> None:
    assert refused(BINARY, data) == reason


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for payload in (JSON, BINARY):
        try:
            assert set(payload.read(data, NAMES)) == set(NAMES)
        except Refused:
            continue
