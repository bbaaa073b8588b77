"""One-time tokens make clients of keys, once; revocation is for good."""

import base64
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge import storage
from fededge.errors import GatewayError
from fededge.fleet.functions import aggregation, enrollment, monitoring
from fededge.fleet.functions.keys import LOW_ORDER, P, proven_key
from fededge.fleet.registry.database import Registry
from fededge.protocol import ClientChange, Enrolled, Enrollment, EnrollmentRequest, enrollment_bytes
from tests.registries import (
    GATEWAY,
    NOW,
    TENANT,
    at_once,
    connect,
    ended_sessions,
    enroll,
    make_fleet,
    make_tenant,
    open_round,
    proof,
    sent,
)


def token(registry: Registry, client: str | None = None, **said: object) -> str:
    request = EnrollmentRequest.model_validate({"client": client, **said})
    return enrollment.tokens(registry, TENANT, request, "admin", NOW)[0].token


def reason(refused: pytest.ExceptionInfo[GatewayError]) -> tuple[str, int]:
    return refused.value.reason, refused.value.status


def test_a_token_makes_a_client_of_a_key(registry: Registry) -> None:
    make_tenant(registry)
    key = Ed25519PrivateKey.generate()
    given = token(registry, "ward-1", kind="device", region="north", attributes={"floor": "3"})
    enrolled = enrollment.enroll(registry, proof(given, key), NOW)
    assert enrolled == Enrolled(tenant=TENANT, client="ward-1", kind="device", region="north")
    public = key.public_key().public_bytes_raw()
    assert monitoring.key_of(registry, TENANT, "ward-1") == public
    info = enrollment.info(registry, TENANT, "ward-1", NOW)
    assert (info.state, info.key_id, info.attributes) == ("active", storage.digest(public), {"floor": "3"})
    assert not info.connected


def test_tokens_are_made_in_bulk_for_clients_with_names_of_their_own(registry: Registry) -> None:
    make_tenant(registry)
    made = enrollment.tokens(registry, TENANT, EnrollmentRequest(count=500), "admin", NOW)
    assert len({each.token for each in made}) == len({each.client for each in made}) == 500
    with pytest.raises(GatewayError) as refused:
        enrollment.tokens(registry, TENANT, EnrollmentRequest(client="x", count=2), "admin", NOW)
    assert reason(refused) == ("NAME", 400)


def test_tokens_are_for_tenants_that_are_there(registry: Registry) -> None:
    with pytest.raises(GatewayError) as refused:
        token(registry)
    assert reason(refused) == ("NO_TENANT", 404)


def test_a_token_is_good_once_and_the_same_key_may_ask_again(registry: Registry) -> None:
    make_tenant(registry)
    given, key = token(registry), Ed25519PrivateKey.generate()
    first = enrollment.enroll(registry, proof(given, key), NOW)
    assert enrollment.enroll(registry, proof(given, key), NOW) == first
    with pytest.raises(GatewayError, match="was used") as refused:
        enrollment.enroll(registry, proof(given, Ed25519PrivateKey.generate()), NOW)
    assert reason(refused) == ("TOKEN", 403)


def test_of_two_at_once_exactly_one_uses_a_token(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened()]
    make_tenant(registries[0])
    for _ in range(10):
        given = token(registries[0])
        proofs = [proof(given, Ed25519PrivateKey.generate()) for _ in range(4)]
        results = at_once(
            [
                lambda n=n, each=each: enrollment.enroll(registries[n % 2], each, NOW)  # type: ignore[misc]
                for n, each in enumerate(proofs)
            ]
        )
        assert len([each for each in results if isinstance(each, Enrolled)]) == 1
        assert len([each for each in results if isinstance(each, GatewayError)]) == 3


def test_an_expired_or_unknown_token_is_refused(registry: Registry) -> None:
    make_tenant(registry)
    key = Ed25519PrivateKey.generate()
    with pytest.raises(GatewayError, match="has expired") as refused:
        enrollment.enroll(registry, proof(token(registry, expires_seconds=5.0), key), NOW + 5.0)
    assert reason(refused) == ("TOKEN", 403)
    with pytest.raises(GatewayError, match="no such enrollment token"):
        enrollment.enroll(registry, proof("never made, never given", key), NOW)


def test_a_key_is_one_clients_even_where_two_enroll_at_once(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened()]
    make_tenant(registries[0])
    make_tenant(registries[0], "other")
    key = Ed25519PrivateKey.generate()
    tokens = [
        enrollment.tokens(registries[0], tenant, EnrollmentRequest(), "admin", NOW)[0].token
        for tenant in (TENANT, "other")
    ]
    results = at_once(
        [
            lambda n=n, each=each: enrollment.enroll(registries[n], proof(each, key), NOW)  # type: ignore[misc]
            for n, each in enumerate(tokens)
        ]
    )
    refused = [each for each in results if isinstance(each, GatewayError)]
    assert [(each.reason, each.status) for each in refused] == [("KEY", 409)]


def test_a_name_is_one_clients_and_a_revoked_ones_is_not_given_again(registry: Registry) -> None:
    make_tenant(registry)
    spare = token(registry, "ward-1")
    enroll(registry, "ward-1")
    enrollment.revoke(registry, TENANT, "ward-1", "admin", NOW)
    for attempt in (
        lambda: token(registry, "ward-1"),
        lambda: enrollment.enroll(registry, proof(spare, Ed25519PrivateKey.generate()), NOW),
    ):
        with pytest.raises(GatewayError, match="enrolled already") as refused:
            attempt()
        assert reason(refused) == ("NAME", 409)


def test_a_proof_by_another_key_is_refused(registry: Registry) -> None:
    make_tenant(registry)
    given = token(registry)
    mine, other = proof(given, Ed25519PrivateKey.generate()), proof(given, Ed25519PrivateKey.generate())
    with pytest.raises(GatewayError) as refused:
        enrollment.enroll(registry, mine.model_copy(update={"signature": other.signature}), NOW)
    assert reason(refused) == ("PROOF", 403)
    stolen = proof(token(registry), Ed25519PrivateKey.generate())
    with pytest.raises(GatewayError):
        enrollment.enroll(registry, stolen.model_copy(update={"token": given}), NOW)
    assert enrollment.enroll(registry, mine, NOW).tenant == TENANT


def points_of_low_order() -> set[int]:
    """y-coordinates of the points of order 1, 2, 4 and 8, found by their equation: with d as in RFC 8032, section 5.1."""
    d = -121665 * pow(121666, P - 2, P) % P
    i = pow(2, (P - 1) // 4, P)
    # x = 0: y = 1, -1. y = 0: x^2 = -1. Order 8: doubling gives y = 0, so y^2 = -x^2 and x^2 = y^2 * i^2.
    found = {1, P - 1, 0}
    # -x^2 + y^2 = 1 + d x^2 y^2 with x^2 = -y^2: d y^4 + 2 y^2 - 1 = 0
    root = pow(1 + d, (P + 3) // 8, P)
    root = root if root * root % P == (1 + d) % P else root * i % P
    assert root * root % P == (1 + d) % P
    for sign in (1, -1):
        square = (-1 + sign * root) * pow(d, P - 2, P) % P
        y = pow(square, (P + 3) // 8, P)
        y = y if y * y % P == square else y * i % P
        if y * y % P == square:
            found |= {y, P - y}
    return found


def test_the_points_of_low_order_are_all_known() -> None:
    assert points_of_low_order() == LOW_ORDER


@pytest.mark.parametrize("y", sorted(LOW_ORDER | {P, P + 1}))
@pytest.mark.parametrize("sign", [0, 1])
def test_keys_that_prove_nothing_are_refused(y: int, sign: int) -> None:
    key = (y | sign << 255).to_bytes(32, "little")
    forged = Enrollment(
        token="a token of some length",
        public_key=base64.b64encode(key).decode(),
        signature=base64.b64encode((1).to_bytes(32, "little") + bytes(32)).decode(),
    )
    with pytest.raises(GatewayError) as refused:
        proven_key(forged)
    assert reason(refused) == ("KEY", 400)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_keys_of_another_length_are_refused(length: int) -> None:
    key = bytes(range(length))
    signer = Ed25519PrivateKey.generate()
    signature = signer.sign(enrollment_bytes("a token of some length", key))
    said = Enrollment(
        token="a token of some length",
        public_key=base64.b64encode(key).decode(),
        signature=base64.b64encode(signature).decode(),
    )
    with pytest.raises(GatewayError) as refused:
        proven_key(said)
    assert reason(refused) == ("KEY", 400)
    with pytest.raises(GatewayError):
        proven_key(said.model_copy(update={"public_key": "A"}))


def test_a_tenant_has_no_more_clients_than_its_quota(opened: Callable[[], Registry]) -> None:
    registries = [opened(), opened()]
    make_tenant(registries[0], clients=3)
    given = [token(registries[0]) for _ in range(6)]
    results = at_once(
        [
            lambda n=n, each=each: enrollment.enroll(  # type: ignore[misc]
                registries[n % 2], proof(each, Ed25519PrivateKey.generate()), NOW
            )
            for n, each in enumerate(given)
        ]
    )
    refused = [each for each in results if isinstance(each, GatewayError)]
    assert [(each.reason, each.status) for each in refused] == [("QUOTA", 429)] * 3
    assert len(enrollment.listing(registries[0], TENANT, NOW).items) == 3


def test_a_revoked_client_is_out_at_once(registry: Registry) -> None:
    session = make_fleet(registry, ["ward-1", "ward-2"])["ward-1"]
    open_round(registry, ["ward-1", "ward-2"])
    sent(registry)
    enrollment.revoke(registry, TENANT, "ward-1", "admin", NOW)
    enrollment.revoke(registry, TENANT, "ward-1", "admin", NOW)
    assert monitoring.key_of(registry, TENANT, "ward-1") is None
    assert ended_sessions(registry, GATEWAY) == [session]
    assert monitoring.beat(registry, {session: None}, NOW) == {session}
    with pytest.raises(GatewayError) as refused:
        connect(registry, "ward-1")
    assert reason(refused) == ("REVOKED", 403)
    (failure,) = aggregation.reports(registry, TENANT, "r1", 0).items
    assert (failure.client, failure.failure) == ("ward-1", "it was revoked")
    info = enrollment.info(registry, TENANT, "ward-1", NOW)
    assert (info.state, info.connected) == ("revoked", False)
    monitoring.disconnect(registry, session, NOW)
    assert ended_sessions(registry, GATEWAY) == []


def test_what_operators_say_of_a_client_is_changed_in_part(registry: Registry) -> None:
    make_tenant(registry)
    enroll(registry, "ward-1", region="north", attributes={"floor": "3", "wing": "a"})
    change = ClientChange(attributes={"floor": None, "room": "12"}, device_class="server")
    info = enrollment.change(registry, TENANT, "ward-1", change, "admin", NOW)
    assert info.attributes == {"wing": "a", "room": "12"}
    assert (info.region, info.device_class) == ("north", "server")
    many = ClientChange(attributes={f"a{n}": "x" for n in range(63)})
    with pytest.raises(GatewayError, match="64 attributes"):
        enrollment.change(registry, TENANT, "ward-1", many, "admin", NOW)


def test_clients_are_listed_by_what_they_are(registry: Registry) -> None:
    make_fleet(registry, ["a", "b"])
    enroll(registry, "c", region="south")
    enroll(registry, "d")
    enrollment.revoke(registry, TENANT, "d", "admin", NOW)

    def names(**asked: object) -> list[str]:
        return [each.client for each in enrollment.listing(registry, TENANT, NOW, **asked).items]  # type: ignore[arg-type]

    assert names() == ["a", "b", "c", "d"]
    assert names(dataset="scans") == names(connected=True) == ["a", "b"]
    assert names(connected=False) == ["c", "d"]
    assert names(region="south") == ["c"]
    assert names(state="revoked") == ["d"]
    page = enrollment.listing(registry, TENANT, NOW, limit=3)
    assert page.next == "c"
    assert [each.client for each in enrollment.listing(registry, TENANT, NOW, after="c").items] == ["d"]
    later = NOW + 61.0
    assert not enrollment.info(registry, TENANT, "a", later).connected
    assert enrollment.listing(registry, TENANT, later, connected=True).items == []


@pytest.mark.parametrize("name", ["nobody", "a\0b", "\ud800", "x" * 10_000])
def test_a_client_that_is_not_there_is_not_found(registry: Registry, name: str) -> None:
    make_tenant(registry)
    for attempt in (
        lambda: enrollment.info(registry, TENANT, name, NOW),
        lambda: enrollment.revoke(registry, TENANT, name, "admin", NOW),
        lambda: enrollment.change(registry, TENANT, name, ClientChange(), "admin", NOW),
    ):
        with pytest.raises(GatewayError) as refused:
            attempt()
        assert reason(refused) == ("NO_CLIENT", 404)
    assert monitoring.key_of(registry, TENANT, name) is None


def test_many_clients_are_looked_up_at_once_in_the_order_that_was_asked_for(registry: Registry) -> None:
    make_fleet(registry, ["a", "b", "c"])
    found = enrollment.named(registry, TENANT, ["c", "a", "c"], NOW)
    assert [client.client for client in found.items] == ["c", "a", "c"]
    assert found.items[0] == enrollment.info(registry, TENANT, "c", NOW)
    with pytest.raises(GatewayError, match="no client nobody") as refused:
        enrollment.named(registry, TENANT, ["a", "nobody"], NOW)
    assert refused.value.status == 404
