"""Tokens of operators: shown once, kept as digests, good until they are revoked or expire."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from fededge.errors import GatewayError
from fededge.fleet.functions import operators
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata
from fededge.protocol import OperatorRequest, OperatorToken, Tenant
from tests.registries import NOW, TENANT, at_once, make_tenant


def make(registry: Registry, tenant: str = TENANT, **said: object) -> OperatorToken:
    request = OperatorRequest.model_validate({"name": "ci", "scope": "operator", **said})
    return operators.make(registry, tenant, request, "admin", NOW)


def test_a_token_tells_whose_it_is(registry: Registry) -> None:
    make_tenant(registry)
    made = make(registry)
    found = operators.token_of(registry, made.token, NOW + 1.0)
    assert found is not None
    assert (found.id, found.tenant, found.name, found.scope) == (made.id, TENANT, "ci", "operator")


def test_a_token_tells_when_it_was_used(registry: Registry) -> None:
    make_tenant(registry)
    made = make(registry)
    operators.used(registry, made.id, NOW + 1.0)
    found = operators.token_of(registry, made.token, NOW + 2.0)
    assert found is not None
    assert found.last_used == NOW + 1.0
    assert operators.listing(registry, TENANT).items == [found]


def test_nobody_has_a_token_that_was_not_made(registry: Registry) -> None:
    make_tenant(registry)
    made, other = make(registry), make(registry)
    stitched = made.token[:19] + other.token[19:]
    for secret in (
        "",
        "fe_",
        "x",
        stitched,
        made.token[:-1],
        made.token + "0",
        made.token.upper(),
        "\0",
        "\ud800",
    ):
        assert operators.token_of(registry, secret, NOW) is None


def test_an_expired_or_revoked_token_is_worthless(registry: Registry) -> None:
    make_tenant(registry)
    short = make(registry, expires_seconds=60.0)
    assert operators.token_of(registry, short.token, NOW + 59.9) is not None
    assert operators.token_of(registry, short.token, NOW + 60.0) is None
    made = make(registry)
    for _ in range(2):
        operators.revoke(registry, TENANT, made.id, "admin", NOW)
    assert operators.token_of(registry, made.token, NOW) is None
    assert next(each for each in operators.listing(registry, TENANT).items if each.id == made.id).revoked
    assert [line.action for line in audit.listing(registry, TENANT).items].count("token.revoke") == 1
    with pytest.raises(GatewayError) as refused:
        operators.revoke(registry, TENANT, "none", "admin", NOW)
    assert (refused.value.reason, refused.value.status) == ("NO_TOKEN", 404)


def test_no_secret_is_kept(registry: Registry) -> None:
    make_tenant(registry)
    secret = make(registry).token.rpartition("_")[2]
    for table in metadata.sorted_tables:
        rows = registry.read(lambda connection, table=table: connection.execute(select(table)).all())  # type: ignore[misc]
        assert secret not in repr(rows)


def test_a_token_is_made_for_a_tenant_that_is_there(registry: Registry) -> None:
    with pytest.raises(GatewayError) as refused:
        make(registry, "nobody")
    assert (refused.value.reason, refused.value.status) == ("NO_TENANT", 404)


def test_the_first_admin_is_made_once_and_again_only_when_there_is_none(
    opened: Callable[[], Registry],
) -> None:
    registries = [opened(), opened()]
    made = at_once(
        [lambda n=n: operators.first_admin(registries[n % 2], NOW) for n in range(4)]  # type: ignore[misc]
    )
    (first,) = [each for each in made if each is not None]
    assert isinstance(first, OperatorToken)
    assert (first.tenant, first.scope) == ("default", "admin")
    assert operators.token_of(registries[0], first.token, NOW) is not None
    assert operators.first_admin(registries[0], NOW) is None
    operators.revoke(registries[0], "default", first.id, "admin", NOW)
    assert operators.first_admin(registries[0], NOW) is not None


def test_tenants_have_quotas_that_change(registry: Registry) -> None:
    operators.put_tenant(registry, Tenant(name="a", clients=3), "admin", NOW)
    operators.put_tenant(registry, Tenant(name="b"), "admin", NOW)
    for _ in range(2):
        operators.put_tenant(registry, Tenant(name="a", bytes=5), "admin", NOW)
    assert operators.get_tenant(registry, "a") == Tenant(name="a", bytes=5)
    assert [each.name for each in operators.list_tenants(registry).items] == ["a", "b"]
    assert operators.list_tenants(registry, limit=1).next == "a"
    assert len(audit.listing(registry, "a").items) == 2
    with pytest.raises(GatewayError):
        operators.get_tenant(registry, "c")
