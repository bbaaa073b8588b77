"""The verbs of a fleet, against a real gateway."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge.cli import main
from fededge.fleet.functions import operators
from fededge.fleet.registry.database import Registry
from tests.gateway_client import Operator
from tests.gateway_process import Gateway

TASK = "name: digits\ndata: {source: digits}\n"
Verb = Callable[..., Any]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    registry = Registry.open(f"sqlite:///{folder}/registry.db")
    made = operators.first_admin(registry, 1.0)
    registry.close()
    assert made is not None
    (folder / "token").write_text(made.token)
    with Gateway.start(folder) as running:
        yield running


@pytest.fixture
def verb(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs a verb that must succeed; with --json what it printed, parsed."""
    monkeypatch.setenv("FEDEDGE_GATEWAY", gateway.url)
    monkeypatch.setenv("FEDEDGE_GATEWAY_TOKEN_FILE", str(gateway.folder / "token"))

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        status = main(list(arguments))
        said = capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out) if said.out[:1] in "[{" else said.out

    return run


def operator(gateway: Gateway) -> Operator:
    return Operator(gateway.url, (gateway.folder / "token").read_text())


def test_a_client_is_enrolled_listed_tagged_and_revoked(verb: Verb, gateway: Gateway) -> None:
    ((token,), other) = verb("clients", "enroll", "hospital-a", "--region", "eu", "--json"), operator(gateway)
    assert token["client"] == "hospital-a"
    joined = other.enroll("ward-b").join()
    clients = {each["client"]: each for each in verb("clients", "list", "--json")}
    assert clients["ward-b"]["connected"]
    assert "hospital-a" not in clients  # nobody has used its token yet
    assert "ward-b" in verb("clients", "list", "--connected")
    tagged = verb("clients", "tag", "ward-b", "floor=2", "--region", "north")
    assert (tagged["region"], tagged["attributes"]) == ("north", {"floor": "2"})
    assert verb("clients", "tag", "ward-b", "floor=")["attributes"] == {}
    assert "revoked ward-b" in verb("clients", "revoke", "ward-b", "--yes")
    assert verb("clients", "show", "ward-b")["state"] == "revoked"
    joined.close()
    other.close()


def test_tokens_of_many_clients_go_to_a_file_that_their_owner_alone_may_read(
    verb: Verb, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    verb("clients", "enroll", "--kind", "device", "--class", "camera", "--count", "3", "-o", str(file))
    assert len({each["token"] for each in json.loads(file.read_text())}) == 3
    assert file.stat().st_mode & 0o077 == 0


def test_rounds_are_listed_shown_and_followed(verb: Verb, gateway: Gateway) -> None:
    other = operator(gateway)
    other.enroll("site-r")
    other.round("r-1", ["site-r"])
    (found,) = [each for each in verb("rounds", "list", "--open", "--json") if each["round"] == "r-1"]
    assert found["waiting"] == 1
    shown = verb("rounds", "show", "r-1", "--json")
    assert [item["client"] for item in shown["queue"]] == ["site-r"]
    assert "site-r" in verb("rounds", "show", "r-1")
    other("POST", "/v1/rounds/r-1/close", {"outcome": "failed", "reason": "a test"})
    assert "closed: failed a test" in verb("rounds", "watch", "r-1")
    other.close()


def test_keys_and_tenants_are_made_and_revoked(verb: Verb, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.token"
    verb("keys", "make", "nightly", "--scope", "reader", "--days", "1", "-o", str(file))
    assert file.read_text().startswith("fe_")
    (key,) = [each for each in verb("keys", "list", "--json") if each["name"] == "nightly"]
    verb("keys", "revoke", key["id"], "--yes")
    assert "revoked" in verb("keys", "list")
    assert verb("tenants", "set", "cardiology", "--clients", "200") == {"name": "cardiology", "clients": 200}
    assert "cardiology" in verb("tenants", "list")
    actions = [each["action"] for each in verb("gateway", "audit", "--json")]
    assert "token.revoke" in actions


def test_triggers_are_set_listed_fired_and_removed(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    task = str(tmp_path / "task.yaml")
    made = verb("triggers", "set", "nightly", task, "--cron", "0 3 * * *", "--on", "local")
    assert made["when"] == "cron"
    assert "task" not in made
    verb("triggers", "set", "drifting", task, "--drift", "accuracy=0.02", "--on", "local", "--off")
    assert "drifting" in verb("triggers", "list")
    assert verb("triggers", "fire", "nightly")["state"] == "due"
    verb("triggers", "remove", "nightly")
    assert [each["name"] for each in verb("triggers", "list", "--json")] == ["drifting"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("triggers", "set", "x", "TASK"), "give one of"),
        (("triggers", "set", "x", "TASK", "--drift", "accuracy"), "no METRIC=CHANGE"),
        (("clients", "tag", "x", "floor"), "no NAME=VALUE"),
    ],
)
def test_a_mistake_in_options_is_named(
    verb: Verb, arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    given = [str(tmp_path / "task.yaml") if each == "TASK" else each for each in arguments]
    assert main(given) == 2
    assert words in capsys.readouterr().err


def test_without_a_gateway_the_verbs_say_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FEDEDGE_GATEWAY", raising=False)
    assert main(["clients", "list"]) == 2
    assert "FEDEDGE_GATEWAY" in capsys.readouterr().err


def test_the_registry_is_backed_up_restored_and_its_audit_log_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDEDGE_FLEET_DATABASE", f"sqlite:///{tmp_path}/one.db")
    assert main(["gateway", "migrate"]) == 0
    registry = Registry.open(f"sqlite:///{tmp_path}/one.db")
    operators.first_admin(registry, 1.0)
    registry.close()
    assert main(["gateway", "token", "lost", "-o", str(tmp_path / "token")]) == 0
    assert main(["gateway", "backup", str(tmp_path / "backup")]) == 0
    monkeypatch.setenv("FEDEDGE_FLEET_DATABASE", f"sqlite:///{tmp_path}/two.db")
    assert main(["gateway", "restore", str(tmp_path / "backup")]) == 0
    assert main(["gateway", "verify-audit"]) == 0
    assert "whole" in capsys.readouterr().out
