"""The manifests of a relay say what its program takes, and KubeEdge's resources what the relay's file says."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from fededge.device.policy import Loaded
from fededge.device.relay.file import RelayFile, load
from fededge.device.relay.options import parser
from fededge.device.relay.settings import Group
from fededge.device.relay.topics import Topic
from fededge.signing import SigningKey
from tests.built_manifests import MANIFESTS, Manifest, build, pods, selects
from tests.crds import Schemas, closed_schemas

TYPES = {"float32": "FLOAT", "bool": "BOOLEAN", "int64": "INT"}


@pytest.fixture(scope="module")
def built() -> list[Manifest]:
    return build(MANIFESTS / "overlays" / "kubeedge")


@pytest.fixture(scope="module")
def pod(built: list[Manifest]) -> Manifest:
    (pod,) = pods(built)
    return pod


@pytest.fixture(scope="module")
def schemas(shared: Path) -> Schemas:
    files = [
        shared / "crds" / "kubeedge" / f"devices_v1beta1_{kind}.yaml" for kind in ("device", "devicemodel")
    ]
    if not all(file.exists() for file in files):
        pytest.skip(f"no CRDs of KubeEdge at {files[0].parent}")
    return {key: schema for file in files for key, schema in closed_schemas(file).items()}


@pytest.fixture
def file(built: list[Manifest], tmp_path: Path) -> RelayFile:
    """The relay's file in the config map."""
    (tmp_path / "relay.yaml").write_text(of_kind(built, "ConfigMap")[0]["data"]["relay.yaml"])
    return load(tmp_path / "relay.yaml")


def of_kind(built: list[Manifest], name: str) -> list[Manifest]:
    return [each for each in built if each["kind"] == name]


def test_kubeedge_knows_every_field(built: list[Manifest], schemas: Schemas) -> None:
    devices = [each for each in built if "kubeedge.io/" in each["apiVersion"]]
    assert {each["kind"] for each in devices} == {"Device", "DeviceModel"}
    for each in devices:
        jsonschema.validate(each, schemas[each["apiVersion"], each["kind"]])


def test_the_devices_are_the_sensors_of_the_relay(built: list[Manifest], file: RelayFile) -> None:
    (group,) = file.groups
    (model,) = of_kind(built, "DeviceModel")
    assert model["metadata"]["name"] == group.name
    assert {each["name"]: each for each in model["spec"]["properties"]} == told(group)
    devices = of_kind(built, "Device")
    assert [each["metadata"]["name"] for each in devices] == group.sensors
    for device in devices:
        spec = device["spec"]
        assert spec["deviceModelRef"] == {"name": group.name}
        assert spec["protocol"]["configData"]["topic"] == Topic.of(group.topic).named(
            device["metadata"]["name"]
        )
        assert [each["name"] for each in spec["properties"]] == list(told(group))
        assert all(each["visitors"]["configData"] == {"field": each["name"]} for each in spec["properties"])


def told(group: Group) -> dict[str, Manifest]:
    """The properties of a device model that says what `group` does."""
    properties: dict[str, Manifest] = {}
    for field in group.payload.fields:
        if field.name == group.reading.id:
            continue
        said = {"name": field.name, "type": TYPES[field.type], "accessMode": "ReadOnly"}
        if field.unit:
            assert field.low is not None
            assert field.high is not None
            said |= {"unit": field.unit, "minimum": f"{field.low:g}", "maximum": f"{field.high:g}"}
        properties[field.name] = said
    return properties


def test_the_commands_are_those_of_site_and_relay(pod: Manifest) -> None:
    (enroll,), (run,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert enroll["command"][:3] == ["fededge", "site", "enroll"]
    assert run["command"][:2] == ["fededge", "relay"]
    options = parser().parse_args(run["command"][2:])
    assert str(options.folder) == enroll["command"][-1]
    mounts = {mount["mountPath"]: mount for mount in run["volumeMounts"]}
    for path in (options.relay, options.policy):
        assert mounts[str(path.parent)]["readOnly"] is True


def test_relay_and_policy_name_what_is_mounted(
    built: list[Manifest], pod: Manifest, file: RelayFile, tmp_path: Path
) -> None:
    text = of_kind(built, "ConfigMap")[0]["data"]["policy.yaml"]
    (container,) = pod["spec"]["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    (signer,) = yaml.safe_load(text)["rules"][0]["signers"]
    for named in (file.broker.ca_file, file.broker.password_file, signer):
        assert str(Path(str(named)).parent) in mounts
    SigningKey.create(tmp_path / "coordinator.pem")
    (tmp_path / "policy.yaml").write_text(text.replace("/etc/fededge/keys", str(tmp_path)))
    loaded = Loaded(tmp_path / "policy.yaml")
    folder = container["command"][-1]
    assert {name: str(path) for name, path in loaded.folders.items()} == {
        group.dataset.name: f"{folder}/datasets/{group.dataset.name}" for group in file.groups
    }
    limit = container["resources"]["limits"]["memory"]
    assert loaded.policy.rules[0].limits.memory_bytes < int(limit.removesuffix("Gi")) << 30


def test_a_relay_runs_on_an_edge_node_and_nobody_connects_to_it(built: list[Manifest], pod: Manifest) -> None:
    assert pod["spec"]["nodeSelector"] == {"node-role.kubernetes.io/edge": ""}
    (policy,) = (each["spec"] for each in of_kind(built, "NetworkPolicy"))
    assert selects(policy["podSelector"], pod["metadata"]["labels"])
    assert "ingress" not in policy
    (rule,) = policy["egress"]
    assert {port["port"] for port in rule["ports"]} == {53, 443, 8883}
