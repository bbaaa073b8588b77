"""What a tenant has stored is known by digest, and bounded."""

from collections.abc import Callable

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, blobs, model_update
from fededge.fleet.registry.database import Registry
from fededge.protocol import ReportMessage
from tests.registries import (
    NOW,
    PLAN,
    TENANT,
    UPDATE,
    WEIGHTS,
    at_once,
    make_fleet,
    make_tenant,
    open_round,
    round_request,
    sent,
)


def test_a_blob_is_known_once_it_is_stored(registry: Registry) -> None:
    make_tenant(registry)
    make_tenant(registry, "other")
    assert blobs.known(registry, TENANT, PLAN) is None
    for _ in range(2):
        blobs.stored(registry, TENANT, PLAN, 7, NOW)
    assert blobs.known(registry, TENANT, PLAN) == 7
    assert blobs.known(registry, "other", PLAN) is None
    blobs.removed(registry, TENANT, PLAN)
    assert blobs.known(registry, TENANT, PLAN) is None


def test_a_tenant_stores_no_more_than_its_quota(registry: Registry) -> None:
    make_tenant(registry, bytes=10)
    blobs.stored(registry, TENANT, PLAN, 6, NOW)
    blobs.stored(registry, TENANT, PLAN, 6, NOW)
    blobs.allowed(registry, TENANT, 4)
    for attempt in (
        lambda: blobs.allowed(registry, TENANT, 5),
        lambda: blobs.stored(registry, TENANT, WEIGHTS, 5, NOW),
    ):
        with pytest.raises(GatewayError) as refused:
            attempt()
        assert (refused.value.reason, refused.value.status) == ("QUOTA", 413)
    for _ in range(2):
        blobs.removed(registry, TENANT, PLAN)
    blobs.allowed(registry, TENANT, 10)


def test_many_at_once_do_not_exceed_a_quota_together(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened()]
    make_tenant(registries[0], bytes=25)
    digests = [f"sha256:{n:064}" for n in range(6)]
    results = at_once(
        [
            lambda n=n, digest=digest: blobs.stored(registries[n % 2], TENANT, digest, 10, NOW)  # type: ignore[misc]
            for n, digest in enumerate(digests)
        ]
    )
    assert sum(isinstance(each, GatewayError) for each in results) == 4
    assert sum(blobs.known(registries[0], TENANT, digest) is not None for digest in digests) == 2


def test_a_tenant_that_is_not_there_stores_nothing(registry: Registry) -> None:
    with pytest.raises(GatewayError) as refused:
        blobs.stored(registry, "nobody", UPDATE, 1, NOW)
    assert (refused.value.reason, refused.value.status) == ("NO_TENANT", 404)


def test_what_one_client_sent_is_not_anothers(registry: Registry) -> None:
    make_tenant(registry, bytes=20)
    blobs.stored(registry, TENANT, UPDATE, 10, NOW, "a")
    assert blobs.known(registry, TENANT, UPDATE, "a") == 10
    assert blobs.known(registry, TENANT, UPDATE, "b") is None
    assert blobs.known(registry, TENANT, UPDATE) is None
    blobs.stored(registry, TENANT, UPDATE, 10, NOW, "b")
    with pytest.raises(GatewayError, match="raise its quota"):
        blobs.stored(registry, TENANT, UPDATE, 10, NOW)
    blobs.removed(registry, TENANT, UPDATE, "a")
    assert blobs.known(registry, TENANT, UPDATE, "b") == 10


def test_blobs_that_are_old_and_that_no_open_round_needs_may_go(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])  # the plan, the weights, an update of each
    old: list[tuple[str, str | None]] = [(f"sha256:{n:064}", None) for n in range(3)]
    for number, (digest, _) in enumerate(old):
        blobs.stored(registry, TENANT, digest, 1, NOW - 100.0 + number)
    blobs.stored(registry, TENANT, old[2][0], 1, NOW)  # wanted again
    assert blobs.unused(registry, TENANT, NOW - 50.0) == old[:2]
    assert blobs.unused(registry, TENANT, NOW - 50.0, limit=1) == old[:1]
    open_round(registry, ["a", "b"])
    updates = [(UPDATE, "a"), (UPDATE, "b")]
    assert set(blobs.unused(registry, TENANT, NOW + 1.0)) == {*old, *updates}
    message = ReportMessage(assignment=sent(registry)["a"].assignment, update=UPDATE)
    aggregation.report(registry, TENANT, "a", message, NOW)
    assert set(blobs.unused(registry, TENANT, NOW + 1.0)) == {*old, (UPDATE, "b")}
    model_update.expire(registry, NOW + 600.0)
    assert set(blobs.unused(registry, TENANT, NOW + 1.0)) == {
        *old,
        *updates,
        (PLAN, None),
        (WEIGHTS, None),
    }


def test_a_round_that_is_opened_wants_its_plan_and_weights(registry: Registry) -> None:
    make_fleet(registry, ["a"])
    model_update.open_round(registry, TENANT, "r1", round_request(["a"]), NOW + 50.0)
    model_update.expire(registry, NOW + 1000.0)
    assert set(blobs.unused(registry, TENANT, NOW + 50.0)) == {(UPDATE, "a")}
