"""Who is chosen: of those that are there and may take part, by the rule that anybody can compute again."""

from typing import Any

import pytest
from sqlalchemy import insert

from fededge.errors import GatewayError
from fededge.fleet.functions import enrollment, monitoring, selection
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import clients, datasets
from fededge.fleet.selection.uniform import uniform
from fededge.fleet.selection.window import width, window
from fededge.protocol import Dataset, SelectionRequest, random_key
from tests.registries import GATEWAY, NOW, SCHEMA, TENANT, connect, enroll, make_fleet, make_tenant


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
        near = window(names, 100, 7, number)
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


def test_a_policy_that_is_not_known_is_refused(registry: Registry) -> None:
    make_fleet(registry, ["a"])
    with pytest.raises(GatewayError) as refused:
        chosen(registry, policy="favorites")
    assert (refused.value.reason, refused.value.status) == ("NO_POLICY", 400)
