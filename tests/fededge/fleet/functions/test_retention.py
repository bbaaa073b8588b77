from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, enrollment, retention, triggering
from fededge.fleet.functions.work import assignment_id
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import CloseRequest, EnrollmentRequest, ReportMessage, TriggerRequest
from tests.registries import NOW, TENANT, UPDATE, make_fleet, make_tenant, open_round, proof

DAY = 86_400.0


def committed(registry: Registry, round: str) -> None:
    """A round that both clients reported in."""
    open_round(registry, ["a", "b"], round)
    for client in ("a", "b"):
        message = ReportMessage(assignment=assignment_id(TENANT, round, client), update=UPDATE, seconds=1.0)
        assert aggregation.report(registry, TENANT, client, message, NOW).answer.outcome == "kept"
    aggregation.close(registry, TENANT, round, CloseRequest(outcome="committed"), NOW)


def test_old_rounds_are_forgotten_with_their_reports_and_nothing_else(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    for round in ("r1", "r2", "r3"):
        committed(registry, round)
    open_round(registry, ["a"], "open")
    assert retention.forget(registry, NOW) == 0
    assert retention.forget(registry, NOW + DAY, limit=2) == 2
    assert retention.forget(registry, NOW + DAY) == 1
    assert [status.round for status in aggregation.rounds(registry, TENANT).items] == ["open"]
    with pytest.raises(GatewayError, match="no round r1"):
        aggregation.reports(registry, TENANT, "r1", 0)
    assert enrollment.info(registry, TENANT, "a", NOW).rounds == 3
    assert audit.verify(registry) is None
    assert len([line for line in audit.listing(registry, TENANT).items if line.action == "round.open"]) == 4


def test_tokens_of_enrollment_that_expired_are_forgotten(registry: Registry) -> None:
    make_tenant(registry)
    for client, hours in (("early", 1), ("late", 48)):
        request = EnrollmentRequest(client=client, expires_seconds=3600.0 * hours)
        (made,) = enrollment.tokens(registry, TENANT, request, "admin", NOW)
    assert retention.forget_tokens(registry, NOW + DAY) == 1
    assert retention.forget_tokens(registry, NOW + DAY) == 0
    enrolled = enrollment.enroll(registry, proof(made.token, Ed25519PrivateKey.generate()), NOW + DAY)
    assert enrolled.client == "late"


def test_a_trigger_that_counts_reports_goes_on_after_old_rounds_were_forgotten(
    opened: Callable[[], Registry],
) -> None:
    registry = opened()
    make_fleet(registry, ["a", "b"])
    committed(registry, "r1")
    request = TriggerRequest(when="blobs", count=2, task='{"name":"tumors"}')
    triggering.put(registry, TENANT, "reports", request, "admin", NOW)
    assert retention.forget(registry, NOW + DAY) == 1
    assert triggering.due(registry, NOW + DAY) == []
    committed(registry, "r2")
    assert len(triggering.due(registry, NOW + 2 * DAY)) == 1
