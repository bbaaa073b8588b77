"""The gateway's manifests: what is monitored is what a gateway tells, and everything fits together."""

import json
import re
from pathlib import Path

import pytest

from fededge.fleet.gateway.observing import Metrics
from tests.built_manifests import MANIFESTS, Manifest, build, check_restricted, check_valid, pods, selects

METRIC = re.compile(r"\bfededge_[a-z_]+")
SUFFIXES = ("_bucket", "_count", "_sum")


@pytest.fixture
def built(tmp_path: Path) -> list[Manifest]:
    """The overlay with all of its components."""
    (tmp_path / "manifests").symlink_to(MANIFESTS)
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: fededge-gateway\n"
        "resources: [../manifests/overlays/gateway]\ncomponents: [../manifests/components/gateway-monitoring]\n"
    )
    return build(tmp_path / "overlay")


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def test_all_of_it_is_valid_and_restricted(built: list[Manifest]) -> None:
    for each in built:
        check_valid(each)
    for pod in pods(built):
        check_restricted(pod["spec"])


def test_rules_and_dashboard_ask_only_for_metrics_that_a_gateway_has(built: list[Manifest]) -> None:
    rules = json.dumps(one(built, "PrometheusRule", "fededge-gateway"))
    dashboard = one(built, "ConfigMap", "fededge-gateway-dashboard")["data"]["dashboard.json"]
    assert json.loads(dashboard)["panels"]
    told = set(re.findall(r"# TYPE (\S+)", Metrics().text().decode()))
    for name in set(METRIC.findall(rules)) | set(METRIC.findall(dashboard)):
        base = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
        assert base in told


def test_policies_services_and_budgets_select_the_gateway_and_its_registry(built: list[Manifest]) -> None:
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in built
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    assert set(labels) == {"fededge-gateway", "fededge-registry"}
    for each in built:
        if each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            selector = each["spec"].get("podSelector") or each["spec"]["selector"]
            assert any(selects(selector, found) for found in labels.values())
    registry = one(built, "NetworkPolicy", "fededge-registry")
    assert selects(registry["spec"]["ingress"][0]["from"][0]["podSelector"], labels["fededge-gateway"])


def test_the_way_in_leads_to_the_service_and_shows_nothing_but_the_api(built: list[Manifest]) -> None:
    (rule,) = one(built, "Ingress", "fededge-gateway")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    service = one(built, "Service", path["backend"]["service"]["name"])
    assert path["path"] == "/v1"  # /metrics is for the cluster alone
    assert path["backend"]["service"]["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]
