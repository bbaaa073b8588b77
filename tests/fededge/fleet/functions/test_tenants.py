"""A tenant sees its own clients, rounds, tokens, triggers and blobs, and no other's, even where names are the same."""

import inspect
from types import ModuleType
from typing import Any

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import (
    aggregation,
    blobs,
    enrollment,
    model_update,
    monitoring,
    operators,
    selection,
    triggering,
)
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.fleet.registry.tables import metadata
from fededge.protocol import (
    ClientChange,
    CloseRequest,
    OperatorRequest,
    ReportMessage,
    SelectionRequest,
    TriggerRequest,
    UploadRequest,
)
from tests.registries import (
    GATEWAY,
    NOW,
    SCHEMA,
    UPDATE,
    UPDATE_BYTES,
    make_fleet,
    make_tenant,
    open_round,
    round_request,
)

MODULES = (aggregation, blobs, enrollment, model_update, operators, selection, triggering)
TENANTLESS = {
    # of gateways, which serve every tenant
    "to_do",
    "set_right",
    "due",
    "cancels",
    "expire",
    # what tells the tenant
    "enroll",
    "token_of",
    "used",
    # of tenants themselves
    "first_admin",
    "get_tenant",
    "list_tenants",
    "put_tenant",
    "running",
}


def functions(module: ModuleType) -> list[Any]:
    return [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_function_is_asked_by_a_tenant_first(module: ModuleType) -> None:
    found = {
        function.__name__: list(inspect.signature(function).parameters) for function in functions(module)
    }
    assert found
    for name, parameters in found.items():
        if name not in TENANTLESS:
            assert parameters[0] in ("registry", "connection"), name
            assert parameters[1] == "tenant", name


def test_a_key_begins_with_the_tenant() -> None:
    tables = {table.name: next(iter(table.primary_key.columns)).name for table in metadata.sorted_tables}
    others = {name: key for name, key in tables.items() if key != "tenant"}
    # found before the tenant is known, by a random id or a digest; or no tenant's
    assert others == {
        "connections": "id",
        "enrollments": "digest",
        "gateways": "id",
        "operators": "id",
        "sessions": "id",
        "tenants": "name",
    }


def fill(registry: Registry, tenant: str) -> str:
    """Everything that a tenant can have, under the same names; an operator's id."""
    make_fleet(registry, ["a"], tenant)
    open_round(registry, ["a"], "r1", tenant)
    request = TriggerRequest(when="interval", every_seconds=1.0, task='{"name":"t"}')
    triggering.put(registry, tenant, "often", request, "admin", NOW)
    made = operators.make(registry, tenant, OperatorRequest(name="ci", scope="reader"), "admin", NOW)
    return made.id


def everything(registry: Registry, tenant: str) -> list[object]:
    return [
        enrollment.listing(registry, tenant, NOW),
        aggregation.rounds(registry, tenant),
        [
            aggregation.queue(registry, tenant, each.round)
            for each in aggregation.rounds(registry, tenant).items
        ],
        triggering.listing(registry, tenant),
        operators.listing(registry, tenant),
        operators.get_tenant(registry, tenant),
        audit.listing(registry, tenant),
        blobs.known(registry, tenant, UPDATE, "a"),
    ]


def test_what_one_tenant_does_is_nothing_to_another_with_the_same_names(registry: Registry) -> None:
    fill(registry, "ours")
    fill(registry, "theirs")
    before = everything(registry, "theirs")
    due = {each.tenant: each for each in model_update.due(registry, GATEWAY, NOW, 10)}
    assert due["ours"].assignment != due["theirs"].assignment
    before = everything(registry, "theirs")
    theirs = ReportMessage(assignment=due["theirs"].assignment, update=UPDATE)
    upload = UploadRequest(assignment=due["theirs"].assignment, digest=UPDATE, bytes=UPDATE_BYTES)
    assert aggregation.report(registry, "ours", "a", theirs, NOW).answer.outcome == "refused"
    assert model_update.accept(registry, "ours", "a", theirs.assignment, NOW).outcome == "refused"
    assert model_update.decline(registry, "ours", "a", theirs.assignment, "", NOW).outcome == "refused"
    with pytest.raises(GatewayError, match="no assignment"):
        aggregation.expected(registry, "ours", "a", upload, NOW)
    aggregation.moved(registry, "ours", due["theirs"].round, up=5)
    ours = ReportMessage(assignment=due["ours"].assignment, update=UPDATE)
    assert aggregation.report(registry, "ours", "a", ours, NOW).answer.outcome == "kept"
    aggregation.close(registry, "ours", "r1", CloseRequest(outcome="committed"), NOW)
    enrollment.change(registry, "ours", "a", ClientChange(region="x"), "admin", NOW)
    enrollment.revoke(registry, "ours", "a", "admin", NOW)
    triggering.fire(registry, "ours", "often", "admin", NOW)
    triggering.delete(registry, "ours", "often", "admin", NOW)
    blobs.removed(registry, "ours", UPDATE, "a")
    make_tenant(registry, "ours", clients=0, open_rounds=0, bytes=0)
    assert everything(registry, "theirs") == before
    assert len(model_update.due(registry, GATEWAY, NOW + 10.0, 10)) == 1
    assert audit.verify(registry) is None


def test_a_tenant_that_has_nothing_finds_nothing(registry: Registry) -> None:
    token = fill(registry, "theirs")
    make_tenant(registry, "ours")
    asked = SelectionRequest(
        task="t", dataset="scans", framework="keras", schema_digest=SCHEMA, size=5, seed=1, number=1
    )
    assert selection.select(registry, "theirs", asked, NOW).cohort == ["a"]
    assert selection.select(registry, "ours", asked, NOW).cohort == []
    assert monitoring.key_of(registry, "theirs", "a") is not None
    assert monitoring.key_of(registry, "ours", "a") is None
    assert blobs.known(registry, "ours", UPDATE, "a") is None
    for attempt in (
        lambda: enrollment.info(registry, "ours", "a", NOW),
        lambda: enrollment.revoke(registry, "ours", "a", "admin", NOW),
        lambda: aggregation.status(registry, "ours", "r1"),
        lambda: aggregation.reports(registry, "ours", "r1", 0),
        lambda: aggregation.close(registry, "ours", "r1", CloseRequest(), NOW),
        lambda: model_update.open_round(registry, "ours", "r2", round_request(["a"]), NOW),
        lambda: triggering.fire(registry, "ours", "often", "admin", NOW),
        lambda: operators.revoke(registry, "ours", token, "admin", NOW),
    ):
        with pytest.raises(GatewayError):
            attempt()
