"""Who is chosen: of those that are there and may take part, by the rule that anybody can compute again."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, update

from fededge.eligibility import Conditions
from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, enrollment, monitoring, selection
from fededge.fleet.gateway import operators
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import clients, datasets
from fededge.fleet.selection import POLICIES
from fededge.fleet.selection.chance import uniform
from fededge.fleet.selection.policy import Candidate
from fededge.fleet.selection.window import width, window
from fededge.protocol import (
    CloseRequest,
    Dataset,
    ReportMessage,
    SelectionRequest,
    SelectionResult,
    random_key,
)
from tests.registries import (
    GATEWAY,
    NOW,
    SCHEMA,
    TENANT,
    UPDATE,
    connect,
    enroll,
    make_fleet,
    make_tenant,
    open_round,
    sent,
)


def request(**changes: Any) -> SelectionRequest:
    return SelectionRequest(
        **{
            "task": "tumors",
            "dataset": "scans",
            "framework": "keras",
            "schema_digest": SCHEMA,
            "size": 2,
            "seed": 7,
            "number": 1,
            **changes,
        }
    )


def chosen(registry: Registry, now: float = NOW, **changes: Any) -> list[str]:
    return selection.select(registry, TENANT, request(**changes), now).cohort


def in_window(names: list[str], size: int, seed: int, number: int) -> list[str]:
    return [names[place] for place in window(np.array(names, "S"), size, seed, number)]


def test_what_is_known_of_a_cohort_comes_with_it_unless_it_is_large(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fleet(registry, "ab")
    (select,) = (each.handler for each in operators.OPERATIONS if each.path == "/v1/selections")
    call: Any = SimpleNamespace(tenant=TENANT, body=request(), now=NOW)

    def answer() -> SelectionResult:
        return select(registry, call)  # type: ignore[arg-type, call-arg, return-value]

    assert [client.client for client in answer().clients or ()] == answer().cohort == ["a", "b"]
    monkeypatch.setattr(operators, "LARGEST", 1)
    assert (answer().cohort, answer().clients) == (["a", "b"], None)


def insert_clients(registry: Registry, names: list[str]) -> None:
    """Connected clients, without their keys' proofs."""
    common = {"tenant": TENANT, "gateway": GATEWAY}
    rows = [
        {
            **common,
            "client": name,
            "random_key": random_key(name),
            "kind": "device",
            "state": "active",
            "public_key": name.encode().hex(),
            "attributes": {},
            "capabilities": {},
            "conditions": {},
            "software": "",
            "enrolled": NOW,
        }
        for name in names
    ]
    held = [
        {
            **common,
            "dataset": "scans",
            "client": name,
            "random_key": random_key(name),
            "train": 10,
            "schema_digest": SCHEMA,
            "frameworks": " keras ",
        }
        for name in names
    ]
    registry.run(lambda connection: connection.execute(insert(clients), rows))
    registry.run(lambda connection: connection.execute(insert(datasets), held))


@pytest.mark.parametrize("policy", ["uniform", "fair"])
def test_only_who_last_said_that_it_meets_the_conditions_is_chosen(registry: Registry, policy: str) -> None:
    said: dict[str, dict[str, str]] = {
        "charging": {"charging": "true", "battery": "0.9"},
        "empty": {"charging": "true", "battery": "0.2"},
        "pulled": {"charging": "false", "battery": "0.9"},
        "silent": {},
    }
    sessions = make_fleet(registry, [])
    for client, conditions in said.items():
        enroll(registry, client)
        sessions[client] = connect(registry, client, conditions=conditions).session
    asked = Conditions(charging=True, min_battery=0.5)
    assert chosen(registry, size=9, policy=policy) == sorted(said)
    assert chosen(registry, size=9, policy=policy, conditions=asked) == ["charging"]
    monitoring.beat(
        registry, {sessions["silent"]: said["charging"], sessions["charging"]: said["pulled"]}, NOW
    )
    assert chosen(registry, size=9, policy=policy, conditions=asked) == ["silent"]
    found = selection.select(registry, TENANT, request(size=9, conditions=Conditions(idle=True)), NOW)
    assert (found.cohort, found.available) == ([], 0)


def test_a_region_is_what_the_registry_says_unless_a_client_says_it_itself(registry: Registry) -> None:
    make_fleet(registry, [])
    for client, conditions in (("home", {}), ("roaming", {"region": "us"})):
        enroll(registry, client, region="eu")
        connect(registry, client, conditions=conditions)
    assert chosen(registry, size=9, conditions=Conditions(regions=["eu"])) == ["home"]
    assert chosen(registry, size=9, conditions=Conditions(regions=["us", "asia"])) == ["roaming"]


def test_with_conditions_a_window_goes_on_until_it_is_full_of_those_that_meet_them(
    registry: Registry,
) -> None:
    make_tenant(registry)
    names = [f"client-{number:05}" for number in range(5000)]
    insert_clients(registry, names)
    monitoring.lease(registry, GATEWAY, "http://gateway", 60.0, NOW)
    few = names[::3]

    def charge(connection: Any) -> None:
        for start in range(0, len(few), 400):
            some = few[start : start + 400]
            connection.execute(
                update(clients).where(clients.c.client.in_(some)).values(conditions={"charging": "true"})
            )

    registry.run(charge)
    asked = request(size=10, conditions=Conditions(charging=True))
    found = selection.select(registry, TENANT, asked, NOW)
    drawn = in_window(few, 10, asked.seed, asked.number)
    assert found.available == len(drawn) == width(10)
    order = sorted(drawn, key=lambda name: uniform(asked.seed, asked.number, name))
    assert found.cohort == sorted(order[:10])


def test_only_who_is_there_and_may_take_part_is_chosen(registry: Registry) -> None:
    sessions = make_fleet(registry, ["good", "gone", "revoked", "elsewhere"])
    monitoring.disconnect(registry, sessions["gone"], NOW)
    enrollment.revoke(registry, TENANT, "revoked", "admin", NOW)
    monitoring.lease(registry, "gateway-2", "http://other", 5.0, NOW)
    connect(registry, "elsewhere", gateway="gateway-2")
    others: dict[str, dict[str, Any]] = {
        "capital": {"frameworks": ["Keras"]},
        "torch": {"frameworks": ["torch"]},
        "longer": {"frameworks": ["keras2", "my-keras"]},
        "slides": {"datasets": [Dataset(name="slides", train=1, test=1, schema_digest=SCHEMA)]},
        "schema": {"datasets": [Dataset(name="scans", train=1, test=1, schema_digest=f"sha256:{'9' * 64}")]},
        "both": {"frameworks": ["torch", "keras"]},
    }
    for client, said in others.items():
        enroll(registry, client)
        connect(registry, client, **said)
    assert chosen(registry, size=10) == ["both", "elsewhere", "good"]
    assert chosen(registry, size=10, now=NOW + 10.0) == ["both", "good"]  # the other gateway's lease is over
    found = selection.select(registry, TENANT, request(size=2), NOW)
    assert (len(found.cohort), found.available) == (2, 3)
    assert set(found.cohort) < {"both", "elsewhere", "good"}


def test_nobody_is_chosen_where_nobody_is(registry: Registry) -> None:
    make_tenant(registry)
    assert selection.select(registry, TENANT, request(), NOW).available == 0


def test_a_cohort_is_computed_again_from_the_ids_of_all(registry: Registry) -> None:
    names = [f"client-{n}" for n in range(3000)]
    make_fleet(registry, [])
    insert_clients(registry, names)
    for number in range(12):
        found = selection.select(registry, TENANT, request(size=100, number=number), NOW)
        assert found.available == width(100) == 1024
        near = in_window(names, 100, 7, number)
        assert found.cohort == sorted(sorted(near, key=lambda name: uniform(7, number, name))[:100])


def test_over_many_rounds_nobody_is_preferred(registry: Registry) -> None:
    names = [f"client-{n}" for n in range(50)]
    make_fleet(registry, [])
    insert_clients(registry, names)
    counts = dict.fromkeys(names, 0)
    for number in range(200):
        for client in chosen(registry, size=10, number=number):
            counts[client] += 1
    # binomial with n = 200 and p = 0.2: 40 +- 5.7; five deviations
    assert 12 <= min(counts.values()) <= max(counts.values()) <= 68


def test_a_policy_is_told_what_is_known_of_each_client(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fleet(registry, ["asked", "new"])
    enroll(registry, "far", region="south")
    connect(registry, "far")
    open_round(registry, ["asked"], number=3)
    open_round(registry, ["new"], "other", number=3, task="bones")
    open_round(registry, ["new"], "evaluation", number=3, kind="evaluate")
    message = ReportMessage(assignment=sent(registry)["asked"].assignment, update=UPDATE, seconds=20.0)
    aggregation.report(registry, TENANT, "asked", message, NOW)
    told = CloseRequest(outcome="committed", losses={"asked": 0.25, "new": 9.0, "nobody": 9.0})
    aggregation.close(registry, TENANT, "r1", told, NOW)
    given: list[Candidate] = []

    class Watched:
        def choose(self, pool: Sequence[Candidate], size: int, seed: int, round_number: int) -> list[str]:
            given.extend(pool)
            return []

    monkeypatch.setattr(selection, "policy_of", lambda name, weights: Watched())
    assert selection.select(registry, TENANT, request(policy="fair", number=5), NOW).available == 3
    assert sorted(given, key=lambda candidate: candidate.id) == [
        Candidate(id="asked", train=100, waited=2, loss=0.25, speed=5.0),
        Candidate(id="far", train=100, waited=5, region="south"),
        Candidate(id="new", train=100, waited=5),
    ]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_chooses_of_those_that_are_there(registry: Registry, policy: str) -> None:
    make_fleet(registry, [])
    insert_clients(registry, [f"client-{n}" for n in range(40)])
    found = selection.select(registry, TENANT, request(policy=policy, size=10), NOW)
    assert found.available == 40
    assert len(set(found.cohort)) == len(found.cohort) > 0
    assert found == selection.select(registry, TENANT, request(policy=policy, size=10), NOW)


def test_a_combination_shares_the_seats(registry: Registry) -> None:
    make_fleet(registry, ["a", "b", "c"])
    weights = {"fair": 1.0, "uniform": 3.0}
    assert len(chosen(registry, policy="weighted", weights=weights)) == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"policy": "favorites"},
        {"policy": "my.module:Policy"},
        {"policy": "weighted"},
        {"policy": "weighted", "weights": {"fair": 0.0}},
        {"policy": "weighted", "weights": {"favorites": 1.0}},
    ],
)
def test_a_policy_that_is_not_known_is_refused(registry: Registry, asked: dict[str, Any]) -> None:
    make_fleet(registry, ["a"])
    with pytest.raises(GatewayError) as refused:
        chosen(registry, **asked)
    assert (refused.value.reason, refused.value.status) == ("NO_POLICY", 400)
