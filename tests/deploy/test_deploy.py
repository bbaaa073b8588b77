"""What is deployed without a cluster: the CloudFormation template and the compose file of one machine."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from fededge.cli.gateway import app

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "deploy" / "aws" / "template.yaml"
COMPOSE = ROOT / "deploy" / "machine" / "compose.yaml"
SCHEMA = Path(__file__).with_name("compose.yaml")


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: !Ref and the like become {name: value}."""


def _short_form(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    construct = loader.construct_sequence if isinstance(node, yaml.SequenceNode) else loader.construct_mapping
    return {suffix: construct(node, deep=True)}


Loader.add_multi_constructor("!", _short_form)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)
    return content


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


def test_cfn_lint_finds_nothing_in_the_template() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    command = [str(lint), "--regions", "eu-west-1", "--", str(TEMPLATE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_function_may_do_what_it_does_on_what_it_does_it_to(template: dict[str, Any]) -> None:
    (policy,) = template["Resources"]["Role"]["Properties"]["Policies"]
    actions = set()
    for statement in policy["PolicyDocument"]["Statement"]:
        given = statement["Action"]
        names = [given] if isinstance(given, str) else given
        actions |= set(names)
        assert not any("*" in name for name in names)
        if statement["Resource"] == "*":
            assert all(re.fullmatch(r"ec2:\w+NetworkInterfaces?", name) for name in names)
    assert {name.partition(":")[0] for name in actions} == {
        "ec2",
        "execute-api",
        "lambda",
        "logs",
        "s3",
        "secretsmanager",
    }


def test_the_function_gets_what_its_handler_reads_and_no_secret(template: dict[str, Any]) -> None:
    function = template["Resources"]["Function"]["Properties"]
    (handler,) = function["ImageConfig"]["Command"]
    module, _, name = handler.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    variables = function["Environment"]["Variables"]
    read = set(re.findall(r'"(FEDEDGE_[A-Z_]+)"', (ROOT / "fededge" / "settings.py").read_text()))
    assert {name for name in variables if name != "HOME"} <= read
    assert variables["FEDEDGE_LAMBDA_SECRET"] == {"Ref": "DatabaseSecret"}
    assert not re.search(r"resolve:|NoEcho|password:", TEMPLATE.read_text(), re.IGNORECASE)


def test_the_clock_sends_what_the_handler_takes_within_its_time(template: dict[str, Any]) -> None:
    (target,) = template["Resources"]["Clock"]["Properties"]["Targets"]
    told = json.loads(target["Input"])
    assert list(told) == ["dispatch"]
    assert told["dispatch"] < template["Resources"]["Function"]["Properties"]["Timeout"]


def test_the_compose_file_is_one(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, yaml.safe_load(SCHEMA.read_text()))


def test_whoever_waits_in_compose_waits_for_what_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        assert set(service["networks"]) <= set(compose["networks"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= set(compose["volumes"])
        for other, how in service.get("depends_on", {}).items():
            wanted = (
                "service_healthy" if "healthcheck" in services[other] else "service_completed_successfully"
            )
            assert how["condition"] == wanted


def test_passwords_are_in_files_and_nothing_but_the_gateway_is_open(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service["environment"].items():
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value))
            if re.search("PASS|KEY", variable):
                assert str(value).removeprefix("/run/secrets/") in service["secrets"]
        assert ("ports" in service) == (name == "gateway")
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    assert compose["networks"]["inside"] == {"internal": True}


def test_compose_runs_what_the_command_line_has_in_the_versions_of_the_manifests(
    compose: dict[str, Any],
) -> None:
    command: Any = typer.main.get_command(app)
    for name in ("migrate", "gateway"):
        program, group, verb, *options = compose["services"][name]["command"]
        assert (program, group) == ("fededge", "gateway")
        known = {option for each in command.commands[verb].params for option in each.opts}
        assert {option.partition("=")[0] for option in options} <= known
    manifests = "".join(file.read_text() for file in (ROOT / "manifests").rglob("*.yaml"))
    for service in compose["services"].values():
        assert f"image: {service['image']}\n" in manifests
