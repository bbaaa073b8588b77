"""The manifests of a site say what its program takes, and let it do no more than it needs."""

from pathlib import Path

import pytest
import yaml

from fededge.device.policy import Loaded
from fededge.device.site import parser
from fededge.signing import SigningKey
from tests.built_manifests import MANIFESTS, Manifest, build, pods, selects


@pytest.fixture(scope="module")
def built() -> list[Manifest]:
    return build(MANIFESTS / "overlays" / "site")


@pytest.fixture(scope="module")
def pod(built: list[Manifest]) -> Manifest:
    (pod,) = pods(built)
    return pod


def kind(built: list[Manifest], name: str) -> Manifest:
    (found,) = [each for each in built if each["kind"] == name]
    return found


def test_the_commands_are_those_of_the_site(pod: Manifest) -> None:
    (enroll,), (run,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    for container, named in ((enroll, "token_file"), (run, "policy")):
        assert container["command"][:2] == ["fededge", "site"]
        options = parser().parse_args(container["command"][2:])
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert str(Path(str(getattr(options, named))).parent) in mounts


def test_the_policy_is_one_and_names_what_is_mounted(
    built: list[Manifest], pod: Manifest, tmp_path: Path
) -> None:
    text = kind(built, "ConfigMap")["data"]["policy.yaml"]
    policy = yaml.safe_load(text)
    mounts = {mount["mountPath"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    for path in [
        *policy["datasets"].values(),
        *(str(Path(s).parent) for r in policy["rules"] for s in r["signers"]),
    ]:
        assert mounts[path]["readOnly"] is True
    SigningKey.create(tmp_path / "coordinator.pem")
    (tmp_path / "policy.yaml").write_text(text.replace("/etc/fededge/keys", str(tmp_path)))
    (rule,) = Loaded(tmp_path / "policy.yaml").policy.rules
    limit = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert rule.limits.memory_bytes < int(limit.removesuffix("Gi")) << 30


def test_nobody_connects_to_a_site_and_it_speaks_tls_alone(built: list[Manifest], pod: Manifest) -> None:
    policy = kind(built, "NetworkPolicy")["spec"]
    assert selects(policy["podSelector"], pod["metadata"]["labels"])
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    (rule,) = policy["egress"]
    assert {port["port"] for port in rule["ports"]} == {53, 443}
