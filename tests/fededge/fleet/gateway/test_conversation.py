import base64
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from fededge.protocol import LARGEST_MESSAGE, NEWEST
from tests.gateway_client import Client, Operator
from tests.gateway_process import Gateway, token

NUMBERS = itertools.count()


@pytest.fixture
def client(admin: Operator) -> Iterator[Client]:
    made = admin.enroll(f"talker-{next(NUMBERS)}")
    yield made
    made.close()


def test_a_client_that_proves_its_key_is_welcome_and_its_heartbeats_are_answered(
    client: Client, admin: Operator
) -> None:
    challenge = client.open()
    assert len(base64.b64decode(challenge.nonce)) == 32
    welcome = client.ask(client.hello(challenge, software="1.2.3", conditions={"charging": "yes"}))
    assert (welcome.type, welcome.version, welcome.resumed) == ("welcome", NEWEST, False)
    assert client.ask({"type": "heartbeat"}).type == "heartbeat"
    shown = admin("GET", f"/v1/clients/{client.client}")
    assert shown["connected"]
    assert (shown["software"], shown["conditions"]) == ("1.2.3", {"charging": "yes"})


def test_conditions_in_a_heartbeat_reach_the_registry(client: Client, admin: Operator, until: Any) -> None:
    client.join(conditions={"charging": "yes"})
    client.ask({"type": "heartbeat", "conditions": {"charging": "no"}})
    client.ask({"type": "heartbeat"})
    until(lambda: admin("GET", f"/v1/clients/{client.client}")["conditions"] == {"charging": "no"})


def test_who_says_bye_or_goes_is_connected_no_more(client: Client, admin: Operator, until: Any) -> None:
    for leave in (lambda: client.say({"type": "bye", "reason": "DONE"}), client.close):
        client.join()
        leave()
        until(lambda: not admin("GET", f"/v1/clients/{client.client}")["connected"])


def test_a_nonce_is_used_once(client: Client) -> None:
    nonces = set()
    for _ in range(3):
        nonces.add(client.open().nonce)
        client.close()
    assert len(nonces) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"client": "nobody"}, "REVOKED"),
        ({"tenant": "nobody"}, "REVOKED"),
        ({"signature": base64.b64encode(bytes(64)).decode()}, "REVOKED"),
        ({"signature": "AAAA"}, "REVOKED"),
        ({"oldest": NEWEST + 1, "newest": NEWEST + 9}, "VERSION"),
        ({"client": "../x"}, "MALFORMED"),
        ({"signature": 5}, "MALFORMED"),
        ({"type": "heartbeat"}, "OUT_OF_ORDER"),
        ({"type": "accept", "assignment": "a"}, "OUT_OF_ORDER"),
        ({"type": "welcome"}, "MALFORMED"),
    ],
)
def test_a_bad_hello_is_refused_by_reason_and_ends_the_connection(
    client: Client, changes: Any, reason: str
) -> None:
    refused = client.ask(client.hello(client.open(), **changes))
    assert (refused.type, refused.reason, refused.retry_seconds) == ("refused", reason, None)
    assert client.ended() == 1008


def test_a_newer_client_is_answered_in_the_version_that_both_speak(client: Client) -> None:
    welcome = client.ask(client.hello(client.open(), newest=NEWEST + 7, invented={"by": "a newer version"}))
    assert (welcome.type, welcome.version) == ("welcome", NEWEST)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no json", "MALFORMED"),
        ("[]", "MALFORMED"),
        ("{}", "MALFORMED"),
        (b"\x00\x01", "MALFORMED"),
        ({"type": "invented"}, "MALFORMED"),
        ({"type": "accept"}, "MALFORMED"),
        ({"type": "accept", "assignment": "../../etc"}, "MALFORMED"),
        ({"type": "report", "assignment": "a", "seconds": -1}, "MALFORMED"),
        ({"type": "welcome", "version": 1, "session": "a", "heartbeat_seconds": 1}, "MALFORMED"),
    ],
)
def test_a_message_that_is_no_message_is_refused_and_the_conversation_goes_on(
    client: Client, message: Any, reason: str
) -> None:
    client.join()
    refused = client.ask(message)
    assert (refused.type, refused.reason) == ("refused", reason)
    assert client.ask({"type": "heartbeat"}).type == "heartbeat"


def test_a_second_hello_is_out_of_order(client: Client) -> None:
    challenge = client.open()
    hello = client.hello(challenge)
    assert client.ask(hello).type == "welcome"
    assert client.ask(hello).reason == "OUT_OF_ORDER"


def test_the_tenth_refusal_in_a_minute_ends_the_connection(client: Client) -> None:
    client.join()
    for _ in range(10):
        client.say("nonsense")
    assert client.ended() == 1008


def test_a_message_beyond_the_bound_ends_the_connection_and_is_counted(
    client: Client, admin: Operator, until: Any
) -> None:
    client.join()
    client.ask(json.dumps({"type": "heartbeat", "more": "x" * (LARGEST_MESSAGE - 100)}))
    client.say(json.dumps({"type": "heartbeat", "more": "x" * LARGEST_MESSAGE}))
    assert client.ended() == 1009
    until(lambda: 'fededge_refused_total{reason="TOO_LARGE"}' in admin.http.get("/metrics").text)


def test_no_compression_is_agreed(client: Client) -> None:
    client.open(compression="deflate")
    assert client.socket is not None
    assert client.socket.protocol.extensions == []


def test_a_client_has_one_connection_the_newest(client: Client) -> None:
    first = Client(client.url, client.client)
    first.key = client.key
    first.join()
    client.join()
    assert first.hear().reason == "ENDED"
    assert first.ended() == 1008
    assert client.ask({"type": "heartbeat"}).type == "heartbeat"


def test_a_session_that_ended_is_resumed(client: Client, admin: Operator, until: Any) -> None:
    client.join()
    session = client.session
    client.close()
    until(lambda: not admin("GET", f"/v1/clients/{client.client}")["connected"])
    welcome = client.ask(client.hello(client.open(), resume=session))
    assert (welcome.session, welcome.resumed) == (session, True)
    client.close()
    welcome = client.ask(client.hello(client.open(), resume="somebody-elses"))
    assert not welcome.resumed


def test_assignments_that_nobody_waits_for_are_canceled_when_a_client_comes_back(client: Client) -> None:
    client.say(client.hello(client.open(), working=["long-gone"]))
    assert client.hear().type == "welcome"
    cancel = client.hear()
    assert (cancel.type, cancel.assignment) == ("cancel", "long-gone")


class TestLimits:
    """A gateway with narrow limits."""

    @pytest.fixture(scope="class")
    def narrow(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
        with Gateway.start(
            tmp_path_factory.mktemp("narrow"),
            hello_seconds=0.5,
            heartbeat_seconds=1.0,
            connections=2,
            messages={"per_second": 0.01, "burst": 5},
        ) as gateway:
            yield gateway

    @pytest.fixture
    def enroll(self, narrow: Gateway) -> Iterator[Callable[[], Client]]:
        from fededge.fleet.registry.database import Registry

        registry = Registry.open(f"sqlite:///{narrow.folder}/registry.db")
        operator = Operator(narrow.url, token(registry))
        made: list[Client] = []

        def enroll() -> Client:
            made.append(operator.enroll(f"narrow-{next(NUMBERS)}"))
            return made[-1]

        yield enroll
        for client in made:
            client.close()
        operator.close()
        registry.close()

    def test_who_does_not_say_hello_in_time_is_refused(self, enroll: Any) -> None:
        client = enroll()
        client.open()
        refused = client.hear()
        assert (refused.type, refused.reason) == ("refused", "TIMEOUT")
        assert client.ended() == 1008

    def test_who_is_silent_for_too_long_is_sent_off(self, enroll: Any) -> None:
        client = enroll().join()
        bye = client.hear()
        assert (bye.type, bye.reason) == ("bye", "IDLE")
        assert client.ended() == 1008

    def test_too_many_messages_are_refused_and_not_acted_on(self, enroll: Any) -> None:
        client = enroll().join()
        answers = [client.ask({"type": "heartbeat"}) for _ in range(7)]
        assert [answer.type for answer in answers] == ["heartbeat"] * 5 + ["refused"] * 2
        assert answers[-1].reason == "TOO_FREQUENT"
        assert answers[-1].retry_seconds >= 1

    def test_clients_beyond_the_bound_are_told_when_to_come_back(self, enroll: Any, until: Any) -> None:
        first, second, third = (enroll() for _ in range(3))
        first.join()
        second.join()
        refused = third.ask(third.hello(third.open()))
        assert (refused.type, refused.reason) == ("refused", "OVERLOADED")
        assert refused.retry_seconds > 0
        assert third.ended() == 1008

    def test_who_operates_is_answered_where_no_more_clients_fit(self, narrow: Gateway, enroll: Any) -> None:
        for _ in range(2):
            enroll().join()
        full = httpx.get(f"{narrow.url}/ready", trust_env=False)
        assert (full.status_code, full.json()["state"]) == (503, "2 clients are connected")
        enroll()  # as a token is made, and used


def test_too_many_connects_of_one_address_are_turned_away(tmp_path: Path) -> None:
    with Gateway.start(tmp_path, connects={"per_second": 0.001, "burst": 2}) as gateway:
        client = Client(gateway.url, "anybody")
        client.open()
        client.open()
        with pytest.raises(InvalidStatus) as refused:
            client.open()
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["retry-after"]) > 1
        assert json.loads(refused.value.response.body or b"")["reason"] == "TOO_FREQUENT"
        assert gateway.end() == 0
        assert not [line for line in gateway.log if line.get("level") == "error"]


def test_the_subprotocol_must_be_asked_for(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Client(gateway.url, "anybody").open(subprotocols=None)
    assert refused.value.response.status_code == 400
