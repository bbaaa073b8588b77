import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from fededge import storage
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from tests.gateway_client import SCHEMA, Client, Operator
from tests.gateway_process import Gateway, token

NUMBERS = itertools.count()
TRIGGER = {"when": "interval", "every_seconds": 60.0, "task": '{"name":"digits"}'}
SELECTION = {
    "task": "t",
    "dataset": "digits",
    "framework": "keras",
    "schema_digest": SCHEMA,
    "size": 1,
    "seed": 0,
    "number": 0,
}
ROUND = {
    "task": "t",
    "kind": "train",
    "number": 0,
    "dataset": "digits",
    "order": "o",
    "plan": SCHEMA,
    "weights": SCHEMA,
    "cohort": ["nobody"],
    "seconds": 1.0,
}
RELEASE = {"manifest": SCHEMA, "issued": 1.0, "models": {"camera": SCHEMA}}
NEEDED: dict[tuple[str, str], tuple[str, Any]] = {
    ("GET", "/v1/caller"): ("reader", None),
    ("GET", "/v1/clients"): ("reader", None),
    ("GET", "/v1/clients/absent"): ("reader", None),
    ("POST", "/v1/lookups"): ("reader", {"clients": []}),
    ("GET", "/v1/rounds"): ("reader", None),
    ("GET", "/v1/rounds/absent"): ("reader", None),
    ("GET", "/v1/rounds/absent/queue"): ("reader", None),
    ("GET", "/v1/releases"): ("reader", None),
    ("GET", "/v1/releases/absent"): ("reader", None),
    ("GET", "/v1/triggers"): ("reader", None),
    ("GET", "/v1/triggers/absent"): ("reader", None),
    ("POST", "/v1/enrollments"): ("operator", {}),
    ("PATCH", "/v1/clients/absent"): ("operator", {}),
    ("POST", "/v1/clients/absent/revoke"): ("operator", None),
    ("POST", "/v1/selections"): ("operator", SELECTION),
    ("POST", "/v1/blobs"): ("operator", {"digest": SCHEMA, "bytes": 1}),
    ("PUT", "/v1/rounds/absent"): ("operator", ROUND),
    ("GET", "/v1/rounds/absent/reports"): ("operator", None),
    ("POST", "/v1/rounds/absent/close"): ("operator", {"outcome": "failed"}),
    ("PUT", "/v1/releases/one"): ("operator", RELEASE),
    ("PUT", "/v1/triggers/one"): ("operator", TRIGGER),
    ("DELETE", "/v1/triggers/absent"): ("operator", None),
    ("POST", "/v1/triggers/absent/fire"): ("operator", None),
    ("GET", "/v1/tokens"): ("admin", None),
    ("POST", "/v1/tokens"): ("admin", {"name": "x", "scope": "reader"}),
    ("DELETE", "/v1/tokens/absent"): ("admin", None),
    ("GET", "/v1/tenants"): ("admin", None),
    ("GET", "/v1/tenants/default"): ("admin", None),
    ("PUT", "/v1/tenants/default"): ("admin", {"name": "default"}),
    ("GET", "/v1/audit"): ("admin", None),
}
SCOPES = ("reader", "operator", "admin")


@pytest.fixture(scope="module")
def callers(gateway: Gateway, registry: Registry) -> Iterator[dict[str, Operator]]:
    made = {scope: Operator(gateway.url, token(registry, scope)) for scope in SCOPES}
    yield made
    for operator in made.values():
        operator.close()


@pytest.fixture
def other(gateway: Gateway, registry: Registry) -> Iterator[Operator]:
    """An administrator of another tenant."""
    operator = Operator(gateway.url, token(registry, tenant="other"))
    yield operator
    operator.close()


def test_the_table_of_scopes_names_every_operation(admin: Operator) -> None:
    paths = admin.http.get("/openapi.json").json()["paths"]
    operations = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(operations) == len(NEEDED) + 1  # and enrollment, which needs none


@pytest.mark.parametrize(("method", "path"), NEEDED)
def test_an_operation_needs_its_scope_and_no_more(
    callers: dict[str, Operator], gateway: Gateway, method: str, path: str
) -> None:
    scope, body = NEEDED[method, path]
    nobody = Operator(gateway.url, None)
    assert nobody.refused(method, path, body) == (401, "UNAUTHORIZED")
    nobody.close()
    for number, name in enumerate(SCOPES):
        answer = callers[name].http.request(method, path, json=body)
        if number < SCOPES.index(scope):
            assert (answer.status_code, answer.json()["reason"]) == (403, "FORBIDDEN")
        else:
            assert answer.status_code in (200, 201, 400, 404, 409), answer.text


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic eDp5", "Bearer x", f"Bearer fe_{'0' * 16}_{'0' * 64}", "x" * 9000]
)
def test_a_token_that_is_none_is_refused_without_being_shown(gateway: Gateway, header: str) -> None:
    import httpx

    answer = httpx.get(f"{gateway.url}/v1/caller", headers={"authorization": header}, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    if len(header) > 10:
        assert header.partition(" ")[2] not in answer.text or not header.partition(" ")[2]


def test_a_token_is_made_shown_once_and_made_worthless(admin: Operator, gateway: Gateway) -> None:
    made = admin("POST", "/v1/tokens", {"name": "pipeline", "scope": "operator"})
    caller = Operator(gateway.url, made["token"])
    assert caller("GET", "/v1/caller") == {"tenant": "default", "name": "pipeline", "scope": "operator"}
    listed = {each["id"]: each for each in admin("GET", "/v1/tokens")["items"]}
    assert "token" not in listed[made["id"]]
    assert admin("DELETE", f"/v1/tokens/{made['id']}") == {"done": True}
    assert caller.refused("GET", "/v1/caller") == (401, "UNAUTHORIZED")
    caller.close()


def test_a_token_expires(admin: Operator, gateway: Gateway, until: Any) -> None:
    made = admin("POST", "/v1/tokens", {"name": "brief", "scope": "reader", "expires_seconds": 0.2})
    caller = Operator(gateway.url, made["token"])
    until(lambda: caller.http.get("/v1/caller").status_code == 401)
    caller.close()


def test_clients_are_enrolled_tagged_listed_and_revoked(admin: Operator, until: Any) -> None:
    request = {"count": 3, "kind": "device", "region": "north", "device_class": "small"}
    made = admin("POST", "/v1/enrollments", request)["items"]
    assert len({each["client"] for each in made}) == 3
    clients = []
    for each in made:
        client = Client(str(admin.http.base_url).rstrip("/"), each["client"])
        body = client.enrollment(each["token"])
        enrolled = admin("POST", "/v1/enroll", body)
        assert enrolled == admin("POST", "/v1/enroll", body)
        assert enrolled["region"] == "north"
        clients.append(client)
    first = clients[0].join()
    path = f"/v1/clients/{first.client}"
    changed = admin("PATCH", path, {"attributes": {"building": "5"}, "region": "south"})
    assert (changed["attributes"], changed["region"]) == ({"building": "5"}, "south")
    south = admin("GET", "/v1/clients", params={"region": "south", "connected": "true"})
    assert [each["client"] for each in south["items"]] == [first.client]
    pages = list(_pages(admin, "/v1/clients", "client", region="north"))
    assert pages == sorted(client.client for client in clients[1:])
    assert admin("POST", f"{path}/revoke") == {"done": True}
    assert first.hear().reason == "ENDED"
    refused = first.ask(first.hello(first.open()))
    assert refused.reason == "REVOKED"
    assert admin("GET", "/v1/clients", params={"state": "revoked", "region": "south"})["items"]
    first.close()


def _pages(admin: Operator, path: str, key: str, **query: Any) -> Iterator[str]:
    after = ""
    while after is not None:
        page = admin("GET", path, params={"limit": 1, "after": after, **query})
        assert len(page["items"]) <= 1
        yield from (item[key] for item in page["items"])
        after = page.get("next")


def test_an_enrollment_token_makes_one_client(admin: Operator) -> None:
    made = admin("POST", "/v1/enrollments", {"client": f"single-{next(NUMBERS)}"})["items"][0]
    first, second = (Client(str(admin.http.base_url), made["client"]) for _ in range(2))
    admin("POST", "/v1/enroll", first.enrollment(made["token"]))
    assert admin.refused("POST", "/v1/enroll", second.enrollment(made["token"])) == (403, "TOKEN")


def test_a_tenant_sees_nothing_of_another(admin: Operator, other: Operator) -> None:
    client = admin.enroll(f"mine-{next(NUMBERS)}").join()
    admin.round(f"mine-{client.client}", [client.client])
    admin("PUT", "/v1/triggers/mine", TRIGGER)
    for path in (
        f"/v1/clients/{client.client}",
        f"/v1/rounds/mine-{client.client}",
        f"/v1/rounds/mine-{client.client}/queue",
        f"/v1/rounds/mine-{client.client}/reports",
        "/v1/triggers/mine",
        "/v1/tenants/default",
    ):
        assert other.refused("GET", path)[0] == 404
    for path in ("/v1/clients", "/v1/rounds", "/v1/triggers"):
        assert other("GET", path)["items"] == []
    assert other.refused("POST", f"/v1/clients/{client.client}/revoke")[0] == 404
    assert [each["name"] for each in other("GET", "/v1/tenants")["items"]] == ["other"]
    assert {each["tenant"] for each in other("GET", "/v1/audit")["items"]} == {"other"}
    assert other.refused("PUT", "/v1/rounds/theirs", ROUND | {"cohort": [client.client]}) == (
        400,
        "NO_CLIENT",
    )
    client.close()


def test_quotas_are_set_by_administrators_of_the_first_tenant(admin: Operator, other: Operator) -> None:
    assert other.refused("PUT", "/v1/tenants/other", {"name": "other", "clients": 9}) == (403, "FORBIDDEN")
    assert admin.refused("PUT", "/v1/tenants/other", {"name": "x"}) == (400, "MALFORMED")
    admin("PUT", "/v1/tenants/other", {"name": "other", "clients": 1, "open_rounds": 1})
    client = other.enroll(f"only-{next(NUMBERS)}")
    made = other("POST", "/v1/enrollments", {})["items"][0]
    second = Client(client.url, made["client"])
    assert other.refused("POST", "/v1/enroll", second.enrollment(made["token"])) == (429, "QUOTA")
    other.round("first", [client.client])
    body = ROUND | {"plan": other.store(b"plan"), "weights": other.store(b"w"), "cohort": [client.client]}
    assert other.refused("PUT", "/v1/rounds/second", body) == (429, "QUOTA")


def test_a_round_needs_what_it_names(admin: Operator) -> None:
    client = admin.enroll(f"needed-{next(NUMBERS)}")
    body = ROUND | {"cohort": [client.client], "plan": storage.digest(b"absent")}
    assert admin.refused("PUT", f"/v1/rounds/{client.client}", body) == (409, "NO_BLOB")


def test_triggers_are_made_fired_and_taken_away(admin: Operator) -> None:
    made = admin("PUT", "/v1/triggers/nightly", {**TRIGGER, "when": "cron", "cron": "0 3 * * *"})
    assert made["state"] == "idle"
    assert admin("POST", "/v1/triggers/nightly/fire")["state"] == "due"
    assert "nightly" in [each["name"] for each in admin("GET", "/v1/triggers")["items"]]
    assert admin("DELETE", "/v1/triggers/nightly") == {"done": True}
    assert admin.refused("GET", "/v1/triggers/nightly") == (404, "NO_TRIGGER")


def test_what_operators_do_is_in_the_audit_log_by_their_names(admin: Operator, registry: Registry) -> None:
    client = admin.enroll(f"audited-{next(NUMBERS)}")
    admin("POST", f"/v1/clients/{client.client}/revoke")
    lines = []
    after = 0
    while True:
        page = admin("GET", "/v1/audit", params={"after": after, "limit": 1000})
        lines += page["items"]
        if "next" not in page:
            break
        after = page["next"]
    mine = [(line["actor"], line["action"]) for line in lines if line["subject"] == client.client]
    assert mine == [
        ("admin-of-default", "enrollment.token"),
        (f"client {client.client}", "client.enroll"),
        ("admin-of-default", "client.revoke"),
    ]
    assert audit.verify(registry) is None


@pytest.mark.parametrize(
    ("method", "path", "options", "wanted"),
    [
        ("GET", "/v1/nothing", {}, (404, "NOT_FOUND")),
        ("PUT", "/v1/clients", {}, (405, "METHOD")),
        ("GET", "/v1/clients?limit=0", {}, (400, "MALFORMED")),
        ("GET", "/v1/clients?limit=x", {}, (400, "MALFORMED")),
        ("GET", "/v1/rounds?state=ajar", {}, (400, "MALFORMED")),
        ("GET", "/v1/rounds/r/reports?wait=61", {}, (400, "MALFORMED")),
        ("GET", "/v1/audit?after=x", {}, (400, "MALFORMED")),
        ("GET", "/v1/clients/..%2F..%2Fetc", {}, (404, "NOT_FOUND")),
        ("GET", "/v1/clients/%00", {}, (400, "MALFORMED")),
        ("POST", "/v1/blobs", {"content": b"{"}, (400, "MALFORMED")),
        ("POST", "/v1/blobs", {"content": b"[]"}, (400, "MALFORMED")),
        ("POST", "/v1/blobs", {"content": b'{"digest": "sha256:0", "bytes": 1}'}, (400, "MALFORMED")),
        (
            "POST",
            "/v1/blobs",
            {"content": b"a=1", "headers": {"content-type": "application/x-www-form-urlencoded"}},
            (415, "UNSUPPORTED_MEDIA_TYPE"),
        ),
        (
            "POST",
            "/v1/blobs",
            {"content": b"", "headers": {"content-encoding": "gzip"}},
            (415, "UNSUPPORTED_MEDIA_TYPE"),
        ),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_by_reason(
    admin: Operator, method: str, path: str, options: Any, wanted: Any
) -> None:
    assert admin.refused(method, path, **options) == wanted


def test_every_answer_names_its_request_as_the_log_does(
    admin: Operator, gateway: Gateway, until: Any
) -> None:
    name = admin.http.get("/v1/caller").headers["x-request-id"]
    until(lambda: name in {line["request"] for line in gateway.events("request")})
