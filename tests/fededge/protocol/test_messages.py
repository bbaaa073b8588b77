from pathlib import Path
from typing import Any, get_args

import pytest

from fededge.errors import IntegrityError, ProtocolError
from fededge.protocol import (
    LARGEST_MESSAGE,
    NEWEST,
    OLDEST,
    ClientMessage,
    GatewayMessage,
    Heartbeat,
    Hello,
    Order,
    agreed,
    from_client,
    from_gateway,
    json_schema,
)
from fededge.signing import SigningKey

pytestmark = pytest.mark.environment("platform", "edge")
DIGEST = "sha256:" + "0" * 64


def hello(**changes: Any) -> Hello:
    fields: dict[str, Any] = {"tenant": "t", "client": "c", "signature": "AAAA"} | changes
    return Hello(**fields)


def test_a_message_comes_back_as_it_was_sent() -> None:
    said = hello(datasets=[{"name": "d", "train": 3, "test": 1, "schema_digest": DIGEST}])
    assert from_client(said.model_dump_json()) == said
    assert from_gateway('{"type": "heartbeat"}') == Heartbeat()


def test_fields_of_a_newer_program_are_passed_over() -> None:
    assert from_client('{"type": "heartbeat", "battery": {"deep": [1]}}') == Heartbeat()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "MALFORMED"),
        ("[]", "MALFORMED"),
        ('{"type": "reboot"}', "MALFORMED"),
        ('{"type": "welcome", "version": 1, "session": "s", "heartbeat_seconds": 1.0}', "MALFORMED"),
        ('{"type": "report", "assignment": "../x"}', "MALFORMED"),
        ('{"type": "report", "assignment": "a", "seconds": NaN}', "MALFORMED"),
        ('{"type": "heartbeat", "x": "' + "a" * LARGEST_MESSAGE + '"}', "TOO_LARGE"),
    ],
)
def test_what_is_no_message_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        from_client(text)
    assert refused.value.reason == reason


def test_both_sides_speak_the_newest_version_that_they_share() -> None:
    assert agreed(OLDEST - 1, NEWEST) == NEWEST
    assert agreed(OLDEST, NEWEST + 1) == NEWEST
    for oldest, newest in ((NEWEST + 1, NEWEST + 2), (0, OLDEST - 1)):
        with pytest.raises(ProtocolError, match="no version of the protocol in common"):
            agreed(oldest, newest)


def test_an_order_is_obeyed_only_as_its_signer_wrote_it(tmp_path: Path) -> None:
    key, other = SigningKey.create(tmp_path / "a.pem"), SigningKey.create(tmp_path / "b.pem")
    order = Order(
        tenant="t", task="digits", identity=DIGEST, owner="ada", round_id="r-1", kind="train", dataset="d", number=1,
        seed=0, cohort=3, min_clients=2, framework="keras", plan=DIGEST, weights=DIGEST, issued=1.0,
    )  # fmt: skip
    envelope = order.signed(key)
    assert Order.opened(envelope, key.public) == order
    for wrong in (envelope.replace('\\"cohort\\":3', '\\"cohort\\":9'), order.signed(other)):
        with pytest.raises(IntegrityError):
            Order.opened(wrong, key.public)
    with pytest.raises(IntegrityError):
        Order.opened(key.sign({"bundle": DIGEST}).decode(), key.public)


def test_every_message_has_an_exported_schema() -> None:
    told = {each["$ref"].rpartition("/")[2] for each in json_schema()["oneOf"]}
    both = {*get_args(ClientMessage), *get_args(GatewayMessage)}
    assert told == {message.__name__ for message in both}
