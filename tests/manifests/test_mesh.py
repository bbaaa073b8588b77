"""The Istio overlay: valid by Istio's own CRDs, and of one piece with what it guards."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.built_manifests import MANIFESTS, Manifest, build, check_valid, pods, selects
from tests.crds import Schemas, broken_rules, closed_schemas

ISTIO = MANIFESTS / "overlays" / "istio"
Manifests = list[Manifest]


@pytest.fixture(scope="module")
def built() -> Manifests:
    return build(ISTIO)


@pytest.fixture(scope="module")
def schemas(shared: Path) -> Schemas:
    file = shared / "crds" / "istio" / "crd-all.gen.yaml"
    if not file.exists():
        pytest.skip(f"no Istio CRDs at {file}")
    return closed_schemas(file)


def of_kind(manifests: Manifests, kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == kind}


def in_mesh(manifests: Manifests) -> Manifests:
    return [each for each in manifests if "istio.io/" in each["apiVersion"]]


def test_istio_knows_every_field(built: Manifests, schemas: Schemas) -> None:
    assert in_mesh(built)
    for each in in_mesh(built):
        jsonschema.validate(each, schemas[each["apiVersion"], each["kind"]])


def test_an_unknown_field_is_refused(built: Manifests, schemas: Schemas) -> None:
    (rule, *_) = (each for each in built if each["kind"] == "DestinationRule")
    wrong = {**rule, "spec": {**rule["spec"], "outlierDetection": {}}}
    with pytest.raises(jsonschema.ValidationError, match="outlierDetection"):
        jsonschema.validate(wrong, schemas[rule["apiVersion"], rule["kind"]])


def test_istios_own_rules_are_kept_and_a_broken_one_is_told(built: Manifests, schemas: Schemas) -> None:
    for each in in_mesh(built):
        assert broken_rules(schemas[each["apiVersion"], each["kind"]], each) == []
    (rule, *_) = (each for each in built if each["kind"] == "DestinationRule")
    wrong = {
        **rule,
        "spec": {**rule["spec"], "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "0s"}}}},
    }
    assert broken_rules(schemas[rule["apiVersion"], rule["kind"]], wrong) == [
        "must be a valid duration greater than 1ms"
    ]


def test_the_rest_is_valid(built: Manifests) -> None:
    for each in built:
        if "istio.io/" not in each["apiVersion"]:
            check_valid(each)


def test_every_namespace_of_ours_takes_mutual_tls_alone(built: Manifests) -> None:
    ours = {each["metadata"]["name"] for each in built if each["kind"] == "Namespace"}
    strict = {
        each["metadata"]["namespace"]
        for each in built
        if each["kind"] == "PeerAuthentication" and each["spec"] == {"mtls": {"mode": "STRICT"}}
    }
    assert ours == strict == {"mlflow", "models"}
    injected = [
        each["metadata"]["labels"].get("istio-injection") for each in built if each["kind"] == "Namespace"
    ]
    assert injected == ["enabled", "enabled"]


def test_each_route_leads_to_a_host_with_a_rule_and_shares_total_100(built: Manifests) -> None:
    rules = {spec["host"]: spec["trafficPolicy"] for spec in of_kind(built, "DestinationRule").values()}
    for service in of_kind(built, "VirtualService").values():
        for http in service["http"]:
            assert {each["destination"]["host"] for each in http["route"]} <= rules.keys()
            assert sum(each.get("weight", 100) for each in http["route"]) == 100
            assert float(http["timeout"][:-1]) >= 2 * float(http["retries"]["perTryTimeout"][:-1])
    for policy in rules.values():
        assert policy["tls"] == {"mode": "ISTIO_MUTUAL"}
        assert policy["outlierDetection"]["consecutive5xxErrors"] > 0


def test_only_those_who_run_steps_may_ask_mlflow(built: Manifests) -> None:
    policy = of_kind(built, "AuthorizationPolicy")["fededge-mlflow"]
    (pod,) = pods(built)
    assert selects(policy["selector"], pod["metadata"]["labels"])
    assert policy["action"] == "ALLOW"
    (rule,) = policy["rules"]
    runners = {
        f"cluster.local/ns/{subject['namespace']}/sa/{subject['name']}"
        for each in built
        if each["kind"] == "RoleBinding"
        for subject in each["subjects"]
    }
    assert set(rule["from"][0]["source"]["principals"]) == runners
    assert {str(port["containerPort"]) for port in pod["spec"]["containers"][0]["ports"]} == set(
        rule["to"][0]["operation"]["ports"]
    )


def test_the_gateway_lets_nothing_through_that_an_endpoint_would_refuse_it(built: Manifests) -> None:
    policies = of_kind(built, "AuthorizationPolicy")
    (outside,) = policies["fededge-gateway"]["rules"]
    allowed = {
        path
        for rule in policies["fededge-endpoints"]["rules"]
        for to in rule["to"]
        for path in to["operation"]["paths"]
    }
    assert policies["fededge-gateway"]["action"] == "DENY"
    assert set(outside["to"][0]["operation"]["notPaths"]) <= allowed
    published = {host for spec in of_kind(built, "VirtualService").values() for host in spec["hosts"]}
    named = {host.removesuffix(":*") for host in outside["to"][0]["operation"]["hosts"]}
    assert named == {host for host in published if not host.endswith(".cluster.local")}
