"""Devices at a real gateway: enrolled, released to, shown; each a real agent of the edge environment."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge import storage
from fededge.fleet import offering, release
from fededge.fleet.functions import enrollment
from fededge.fleet.gateway_client import GatewayClient
from fededge.fleet.registry.database import Registry
from fededge.protocol import ClientInfo, EnrollmentRequest
from tests.gateway_process import Gateway, token
from tests.litert_process import EDGE, needs_edge
from tests.published_fleet import fleet  # noqa: F401

pytestmark = needs_edge
ROOT = Path(__file__).resolve().parents[4]


def agent(*arguments: str) -> list[str]:
    return [str(EDGE), "-m", "fededge", "agent", *arguments]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "FEDEDGE_HOME": str(home)}


@contextmanager
def running(folder: Path, policy: Path) -> Iterator[None]:
    command = agent("run", "--folder", str(folder), "--policy", str(policy))
    process = subprocess.Popen(command, env=environment(folder), stderr=subprocess.PIPE, text=True)
    try:
        yield
        process.terminate()
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.wait()


def test_a_device_enrolls_follows_releases_and_shows_what_it_runs(
    gateway: Gateway,
    registry: Registry,
    fleet: Any,  # noqa: F811
    tmp_path: Path,
    until: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "operator").write_text(token(registry, "operator"))
    asked = EnrollmentRequest(client="camera-7", kind="device", device_class="camera")
    folder, policy = tmp_path / "agent", tmp_path / "policy.yaml"
    follows = {"task": "tiny", "class": "camera", "trusted_key": str(fleet.trusted_key)}
    policy.write_text(yaml.safe_dump({"releases": [follows], "poll_seconds": 1}))
    (enrolled,) = enrollment.tokens(registry, "default", asked, "test", 1.0e10)
    enroll = agent("enroll", gateway.url, "--token-file", "-", "--folder", str(folder))
    done = subprocess.run(
        enroll, input=enrolled.token, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("device camera-7 of default"), done.stderr

    monkeypatch.setenv("FEDEDGE_GATEWAY", gateway.url)
    monkeypatch.setenv("FEDEDGE_GATEWAY_TOKEN_FILE", str(tmp_path / "operator"))
    with GatewayClient.from_settings() as operator, running(folder, policy):

        def publish(version: int, model: str) -> str:
            manifest, envelope = release.publish(fleet.root, fleet.manifest(version, model), fleet.key)
            assert offering.offer_to_gateway(manifest, envelope)
            assert offering.offer_to_gateway(manifest, envelope)  # a repeated step changes nothing
            return manifest.devices["camera"].digest

        def shown() -> ClientInfo:
            return operator.client("camera-7")

        def runs(version: int) -> bool:
            return [each.version for each in shown().running if each.status == "running"] == [version]

        first = publish(1, "first")
        until(lambda: runs(1))
        assert (shown().running[0].digest, shown().running[0].kind) == (first, "float32")
        second = publish(2, "second")
        until(lambda: runs(2))
        assert shown().running[0].digest == second
        assert {each.task: each.manifest for each in operator.releases()}.keys() == {"tiny"}
        assert "free_memory_bytes" in shown().conditions
    status = agent("status", "--json", "--folder", str(folder), "--policy", str(policy))
    told = subprocess.run(status, env=environment(folder), capture_output=True, check=True).stdout
    assert json.loads(told)["releases"][0]["digest"] == second
    verify = subprocess.run(agent("verify", "--folder", str(folder)), env=environment(folder), check=False)
    assert verify.returncode == 0
    kept = storage.read(str(folder / "journal.jsonl")).decode()
    assert '"purpose":"follow"' in kept.replace(" ", "")
