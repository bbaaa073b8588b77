"""One session a client, on one gateway, for as long as both are heard of."""

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, enrollment, model_update, monitoring
from fededge.fleet.registry.database import Registry
from fededge.protocol import Dataset
from tests.registries import (
    GATEWAY,
    NOW,
    SCHEMA,
    TENANT,
    connect,
    ended_sessions,
    enroll,
    make_fleet,
    make_tenant,
    open_round,
    sent,
)


def connected(registry: Registry, client: str = "a", now: float = NOW) -> bool:
    return enrollment.info(registry, TENANT, client, now).connected


def state(registry: Registry, client: str = "a") -> str:
    return {item.client: item.state for item in aggregation.queue(registry, TENANT, "r1").items}[client]


def test_a_client_is_connected_while_its_session_is_open(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    assert connected(registry)
    monitoring.disconnect(registry, session, NOW + 5.0)
    monitoring.disconnect(registry, session, NOW + 6.0)
    info = enrollment.info(registry, TENANT, "a", NOW + 6.0)
    assert (info.connected, info.last_seen) == (False, NOW + 5.0)


def test_what_a_client_says_of_itself_is_kept(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    monitoring.disconnect(registry, session, NOW)
    held = Dataset(name="slides", train=7, test=1, schema_digest=SCHEMA)
    session = connect(
        registry,
        "a",
        datasets=[held],
        software="1.2.3\0",
        capabilities={"processors": "4"},
        conditions={"charging": "no"},
    ).session
    info = enrollment.info(registry, TENANT, "a", NOW)
    assert info.datasets == [held]  # and the scans that it had are gone
    assert (info.software, info.capabilities) == ("1.2.3\N{REPLACEMENT CHARACTER}", {"processors": "4"})
    monitoring.beat(registry, {session: {"charging": "yes"}}, NOW + 1.0)
    assert enrollment.info(registry, TENANT, "a", NOW).conditions == {"charging": "yes"}
    monitoring.beat(registry, {session: None}, NOW + 2.0)
    assert enrollment.info(registry, TENANT, "a", NOW).conditions == {"charging": "yes"}


def test_a_session_that_ended_is_resumed(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    monitoring.disconnect(registry, session, NOW)
    again = connect(registry, "a", resume=session)
    assert (again.session, again.resumed) == (session, True)
    assert monitoring.beat(registry, {session: None}, NOW) == set()


def test_a_session_of_another_client_is_not_resumed(registry: Registry) -> None:
    sessions = make_fleet(registry, ["a", "b"])
    for session in sessions.values():
        monitoring.disconnect(registry, session, NOW)
    again = connect(registry, "a", resume=sessions["b"])
    assert not again.resumed
    assert again.session not in sessions.values()


def test_a_client_that_comes_back_elsewhere_ends_the_session_it_had(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    monitoring.lease(registry, "gateway-2", "http://other", 60.0, NOW)
    second = connect(registry, "a", gateway="gateway-2", resume=session)
    assert not second.resumed
    assert ended_sessions(registry, GATEWAY) == [session]
    assert ended_sessions(registry, "gateway-2") == []
    assert monitoring.beat(registry, {session: None, second.session: None}, NOW) == {session}
    monitoring.disconnect(registry, session, NOW)
    assert connected(registry)
    open_round(registry, ["a"])
    assert sent(registry) == {}
    assert sent(registry, gateway="gateway-2")["a"].session == second.session


def test_an_unknown_client_is_refused(registry: Registry) -> None:
    make_tenant(registry)
    with pytest.raises(GatewayError, match="not enrolled"):
        connect(registry, "nobody")


def test_unknown_sessions_are_to_be_closed(registry: Registry) -> None:
    known = make_fleet(registry, ["a"])["a"]
    beats = {known: None, **{f"made-up-{n}": {"x": "y"} for n in range(1200)}}
    assert monitoring.beat(registry, beats, NOW) == beats.keys() - {known}


def lease(registry: Registry, gateway: str, now: float, seconds: float = 60.0) -> None:
    monitoring.lease(registry, gateway, "http://gateway", seconds, now)


def test_sessions_of_a_gateway_that_died_are_swept_and_their_work_waits(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    lease(registry, "gateway-2", NOW, 3600.0)
    open_round(registry, ["a", "b"])
    assert monitoring.sweep(registry, NOW + 29.0) == 0
    lease(registry, GATEWAY, NOW + 29.0, 1.0)
    assert monitoring.sweep(registry, NOW + 59.0) == 0  # silent for less than the grace
    assert monitoring.sweep(registry, NOW + 60.0) == 2
    assert monitoring.sweep(registry, NOW + 61.0) == 0
    assert ended_sessions(registry, GATEWAY) == []
    assert sent(registry, NOW + 61.0) == {}
    connect(registry, "a", gateway="gateway-2", now=NOW + 62.0)
    assert list(sent(registry, NOW + 62.0, "gateway-2")) == ["a"]


def test_a_client_that_beats_is_not_swept_and_one_that_is_silent_is(registry: Registry) -> None:
    sessions = make_fleet(registry, ["a", "b"])
    lease(registry, GATEWAY, NOW + 10.0, 3600.0)
    monitoring.beat(registry, {sessions["a"]: None}, NOW + 29.0)
    assert monitoring.sweep(registry, NOW + 30.0) == 1
    assert ended_sessions(registry, GATEWAY) == [sessions["b"]]
    assert (connected(registry, "a", NOW + 30.0), connected(registry, "b", NOW + 30.0)) == (True, False)
    assert monitoring.sweep(registry, NOW + 58.0) == 0
    assert monitoring.sweep(registry, NOW + 59.0) == 1


def test_nobody_is_swept_for_the_time_that_the_registry_was_away(registry: Registry) -> None:
    sessions = make_fleet(registry, ["a", "b"])
    lease(registry, "gateway-2", NOW)
    connect(registry, "b", gateway="gateway-2")
    back = NOW + 600.0
    assert monitoring.sweep(registry, back) == 0
    lease(registry, "gateway-2", back)
    assert monitoring.sweep(registry, back + 1.0) == 0
    lease(registry, GATEWAY, back + 10.0)
    monitoring.beat(registry, {sessions["a"]: None}, back + 11.0)
    assert monitoring.sweep(registry, back + 29.0) == 0
    assert monitoring.sweep(registry, back + 30.0) == 1  # b has not been heard of since
    assert (connected(registry, "a", back + 30.0), connected(registry, "b", back + 30.0)) == (True, False)


def test_accepted_work_is_sent_again_only_to_a_client_that_does_not_know_of_it(registry: Registry) -> None:
    sessions = make_fleet(registry, ["a", "b"])
    open_round(registry, ["a", "b"])
    due = sent(registry)
    for client, each in due.items():
        model_update.accept(registry, TENANT, client, each.assignment, NOW)
        monitoring.disconnect(registry, sessions[client], NOW)
    connect(registry, "a", working=[due["a"].assignment])
    connect(registry, "b")
    again = sent(registry)
    assert list(again) == ["b"]
    assert again["b"].assignment == due["b"].assignment
    assert state(registry, "a") == "accepted"


def test_work_whose_accept_was_lost_counts_as_accepted_where_the_client_has_it(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    open_round(registry, ["a"])
    assignment = sent(registry)["a"].assignment
    monitoring.disconnect(registry, session, NOW)
    assert connect(registry, "a", working=[assignment]).forget == []
    assert state(registry) == "accepted"
    assert sent(registry, NOW + 3600.0 / 10) == {}


def test_a_client_forgets_what_nobody_waits_for(registry: Registry) -> None:
    session = make_fleet(registry, ["a"])["a"]
    open_round(registry, ["a"])
    assignment = sent(registry)["a"].assignment
    monitoring.disconnect(registry, session, NOW)
    model_update.expire(registry, NOW + 600.0)
    again = connect(registry, "a", working=[assignment, "made-up"], now=NOW + 601.0)
    assert again.forget == sorted([assignment, "made-up"])
    assert model_update.cancels(registry, GATEWAY, NOW + 601.0) == []


def test_a_client_enrolled_while_it_has_no_dataset_is_in_no_population(registry: Registry) -> None:
    make_fleet(registry, [])
    enroll(registry, "a")
    connect(registry, "a", datasets=[])
    assert enrollment.listing(registry, TENANT, NOW, dataset="scans").items == []
    assert connected(registry)
