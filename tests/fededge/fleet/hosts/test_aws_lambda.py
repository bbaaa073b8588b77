"""The gateway as a Lambda function behind API Gateway, under the real awslambdaric: the bits are the gateway's."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from fededge.device.client import Client as DeviceClient
from fededge.device.clock import Clock
from fededge.device.enrollment import enroll
from fededge.device.identity import IDENTITY, identity_in
from fededge.device.pace import Pace
from fededge.device.workplace import workplace
from fededge.fleet.registry.database import Registry
from fededge.protocol import Order
from fededge.storage import digest
from tests.enrolled_site import SCHEMA, EnrolledSite, in_loop
from tests.gateway_client import Client, Operator
from tests.gateway_process import Gateway, token
from tests.lambda_platform import Platform, deployed, waiting
from tests.stand_in_gateway import KEY, plan_zip
from tests.whole_round import settled, state, through_the_gateway

NUMBERS = itertools.count()


@contextmanager
def between(folder: Path, url: str) -> Iterator[tuple[str, str]]:
    with deployed(folder, url) as platform:
        yield platform.url, platform.api_url
        waiting(lambda: not platform.connections)


def test_a_round_through_lambda_gets_the_gateways_answers_and_leaves_its_registry(tmp_path: Path) -> None:
    direct, through = tmp_path / "direct", tmp_path / "lambda"
    for folder in (direct, through):
        folder.mkdir()
    answers = settled(through_the_gateway(through, between))
    assert json.dumps(answers) == json.dumps(settled(through_the_gateway(direct)))
    assert state(through) == state(direct)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lambda")


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[Gateway]:
    with Gateway.start(home) as started:
        yield started


@pytest.fixture(scope="module")
def admin(home: Path, gateway: Gateway) -> Iterator[Operator]:
    registry = Registry.open(f"sqlite:///{home}/registry.db")
    operator = Operator(gateway.url, token(registry))
    registry.close()
    yield operator
    operator.close()


@pytest.fixture(scope="module")
def platform(home: Path, gateway: Gateway) -> Iterator[Platform]:
    with deployed(home, gateway.url) as started:
        yield started


@pytest.fixture
def client(admin: Operator, platform: Platform) -> Iterator[Client]:
    """Enrolled, and not connected."""
    made = admin.enroll(f"client-{next(NUMBERS)}")
    made.url = platform.url
    yield made
    made.close()


def test_a_real_client_does_a_round(
    admin: Operator, gateway: Gateway, platform: Platform, tmp_path: Path
) -> None:
    site = EnrolledSite(tmp_path)
    site.write_policy(hosts=[gateway.url.removeprefix("http://")])
    (made,) = admin("POST", "/v1/enrollments", {"client": "real"})["items"]
    enroll(site.folder, gateway.url, made["token"])
    moved = identity_in(site.folder).model_copy(update={"gateway": platform.url})
    moved.write(site.folder / IDENTITY)
    plan, weights = admin.store(plan_zip()), admin.store(b"first")
    order = Order(
        tenant="default",
        task="wearables",
        identity=digest(b"task"),
        owner="ada",
        round_id="real-round",
        kind="train",
        dataset="steps",
        number=1,
        seed=3,
        cohort=5,
        min_clients=3,
        framework="keras",
        plan=plan,
        weights=weights,
        issued=1.0,
    )
    asked = {
        "task": "wearables",
        "kind": "train",
        "number": 1,
        "dataset": "steps",
        "order": order.signed(KEY),
    }
    update = {
        "weights": "first",
        "began": 1,
        "do": "train",
        "seed": 3,
        "round": 1,
        "client": "real",
        "share": 1.0,
        "most": 40,
    }
    size = len(json.dumps(update))

    def round() -> list[dict[str, Any]]:
        admin(
            "PUT",
            "/v1/rounds/real-round",
            asked
            | {"plan": plan, "weights": weights, "cohort": ["real"], "seconds": 60.0, "update_bytes": size},
        )
        items: list[dict[str, Any]] = admin("GET", "/v1/rounds/real-round/reports", params={"wait": 60})[
            "items"
        ]
        return items

    async def scenario() -> list[dict[str, Any]]:
        with workplace(site.folder, site.policy_file, site.runner, Clock()) as place:
            device = DeviceClient(place, Pace(0.01, 0.1))
            running = asyncio.create_task(device.run())
            try:
                return await asyncio.to_thread(round)
            finally:
                device.end()
                await running

    (report,) = in_loop(scenario)
    assert json.loads(admin.http.get(report["url"]).content) == update
    held = admin("GET", "/v1/clients/real")
    assert [(each["name"], each["schema_digest"]) for each in held["datasets"]] == [
        ("steps", SCHEMA.form_digest)
    ]


def test_heartbeats_are_answered_and_conditions_kept(admin: Operator, client: Client) -> None:
    client.join()
    assert client.ask({"type": "heartbeat", "conditions": {"charging": "true"}}).type == "heartbeat"
    assert admin("GET", f"/v1/clients/{client.client}")["conditions"] == {"charging": "true"}


def test_who_comes_back_goes_on_with_its_session(client: Client, platform: Platform) -> None:
    first = client.join().session
    client.close()
    waiting(lambda: not platform.connections)
    challenge = client.open()
    client.say(client.hello(challenge, resume=first))
    welcome = client.hear()
    assert (welcome.session, welcome.resumed) == (first, True)


def test_who_is_revoked_is_sent_off(admin: Operator, client: Client) -> None:
    client.join()
    admin("POST", f"/v1/clients/{client.client}/revoke")
    assert client.hear().type == "bye"
    assert client.ended() is not None


def test_work_is_called_back_once_it_is_over(admin: Operator, client: Client) -> None:
    client.join()
    admin.round("called-back", [client.client])
    assignment = client.hear()
    assert client.ask({"type": "accept", "assignment": assignment.id}).outcome == "kept"
    admin("POST", "/v1/rounds/called-back/close", {"outcome": "failed"})
    cancel = client.hear()
    assert (cancel.type, cancel.assignment) == ("cancel", assignment.id)


def test_messages_that_are_none_are_refused_and_the_tenth_ends_the_connection(client: Client) -> None:
    client.join()
    sent: list[str | bytes] = ["nonsense", b"bytes", 70_000 * " ", '{"type": "hello"}']
    heard = [client.ask(each) for each in sent]
    assert [each.reason for each in heard] == ["MALFORMED", "MALFORMED", "TOO_LARGE", "MALFORMED"]
    assert client.ask({"type": "accept", "assignment": "x"}).outcome == "refused"
    for _ in range(6):
        client.say("nonsense")
    assert client.ended() is not None


@pytest.mark.parametrize(
    ("options", "status"),
    [({"subprotocols": None}, 400), ({"additional_headers": {"Origin": "http://evil"}}, 403)],
)
def test_a_handshake_that_a_gateway_refuses_is_refused(
    client: Client, options: dict[str, Any], status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        client.open(**options)
    assert refused.value.response.status_code == status


def test_a_hello_is_good_once_and_for_its_connection_alone(client: Client) -> None:
    challenge = client.open()
    hello = client.hello(challenge)
    assert client.ask(hello).type == "welcome"
    again = client.ask(hello)
    assert (again.type, again.reason) == ("refused", "OUT_OF_ORDER")
    client.open()
    replayed = client.ask(hello)  # of another connection's challenge
    assert (replayed.type, replayed.reason) == ("refused", "REVOKED")
    assert client.ended() is not None


def test_nothing_goes_before_hello(client: Client) -> None:
    client.open()
    refused = client.ask({"type": "heartbeat"})
    assert (refused.type, refused.reason) == ("refused", "OUT_OF_ORDER")
    assert client.ended() is not None


def test_what_is_said_over_a_connection_that_nobody_knows_does_nothing(platform: Platform) -> None:
    for route in ("$default", "$disconnect"):
        context = {"routeKey": route, "connectionId": "forged"}
        assert platform.invoke({"requestContext": context, "body": "{}"}) == {"statusCode": 200}
    with pytest.raises(Exception, match="no event of a WebSocket or HTTP API"):
        platform.invoke({"requestContext": {"routeKey": "other"}})


def test_a_request_that_a_gateway_refuses_is_refused(platform: Platform) -> None:
    stranger = Operator(platform.api_url, "nobody's")
    assert stranger.refused("GET", "/v1/clients") == (401, "UNAUTHORIZED")
    assert stranger.refused("POST", "/v1/enroll", {"token": 1}) == (400, "MALFORMED")
    assert stranger.refused("GET", "/v1/connect") == (404, "NOT_FOUND")
    assert stranger("GET", "/ready") == {"state": "ready"}
    assert "fededge_connections" in stranger.http.get("/metrics").text
    stranger.close()
    with pytest.raises(Exception, match="no HTTP request of an API Gateway HTTP API"):
        platform.invoke({"requestContext": {"http": {"method": "GET"}}})
