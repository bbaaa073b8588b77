"""The Knative manifests fit Knative's schemas, and send functions the events that they take."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fededge.fleet.hosts.app import NAMES
from fededge.fleet.hosts.events import PING, PREFIX, functions
from tests.built_manifests import MANIFESTS, Manifest, build, check_restricted
from tests.crds import closed_schemas

OVERLAY = MANIFESTS / "overlays" / "functions"


@pytest.fixture(scope="module")
def built() -> list[Manifest]:
    return build(OVERLAY)


def of_kind(built: list[Manifest], kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"]: each["spec"] for each in built if each["kind"] == kind}


def test_services_fit_knatives_schema_and_are_restricted(built: list[Manifest], shared: Path) -> None:
    schemas = closed_schemas(shared / "crds" / "knative" / "service.yaml")
    services = [each for each in built if each["kind"] == "Service"]
    assert len(services) == len(NAMES) + 2
    for each in services:
        jsonschema.validate(each, schemas[each["apiVersion"], "Service"])
        check_restricted(each["spec"]["template"]["spec"])


def test_each_function_is_served_and_gets_its_events_from_broker_and_clock(built: list[Manifest]) -> None:
    services = of_kind(built, "Service")
    triggers, pings = of_kind(built, "Trigger"), of_kind(built, "PingSource")
    for name, verbs in functions(lambda _: None).items():
        (container,) = services[f"fededge-{name}"]["template"]["spec"]["containers"]
        assert container["command"] == ["fededge", "functions", "serve", name]
        (filters,) = triggers[f"fededge-{name}"]["filters"]
        wanted = [{"exact": {"type": f"{PREFIX}.{name}.{verb}"}} for verb in verbs if verb != PING]
        assert filters["any"] == wanted
        assert (f"fededge-{name}" in pings) == (PING in verbs)
        ends = [triggers[f"fededge-{name}"]["subscriber"]]
        ends += [pings[f"fededge-{name}"]["sink"]] if PING in verbs else []
        for end in ends:
            assert (end["ref"]["name"], end["uri"]) == (f"fededge-{name}", f"/{name}")


def test_functions_are_started_with_options_that_they_have(built: list[Manifest]) -> None:
    import typer

    from fededge.cli.functions import app

    command: Any = typer.main.get_command(app)
    known = {name for option in command.commands["serve"].params for name in option.opts}
    services = of_kind(built, "Service")
    for name in NAMES:
        (container,) = services[f"fededge-{name}"]["template"]["spec"]["containers"]
        options = {each.partition("=")[0] for each in container["args"] if each.startswith("--")}
        assert options <= known
    for name in ("predict", "train"):
        (container,) = services[f"fededge-{name}"]["template"]["spec"]["containers"]
        source = (MANIFESTS.parent / "serving" / "functions" / f"{name}.py").read_text()
        shared = (MANIFESTS.parent / "serving" / "functions" / "http.py").read_text()
        for each in container["args"]:
            assert f'"{each.partition("=")[0]}"' in source + shared
