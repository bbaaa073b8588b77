"""The command of a site: enroll, run, status, verify, in the environments that have it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fededge.device.site import main
from fededge.host.layout import VENVS
from fededge.protocol import Bye, Hello, ReportMessage
from tests.enrolled_site import ROOT, RUNNER, EnrolledSite, in_loop
from tests.stand_in_gateway import CLIENT, TENANT, TOKEN, StandInGateway

pytestmark = pytest.mark.environment("edge", "worker", "platform")


@pytest.fixture
def site(tmp_path: Path) -> EnrolledSite:
    return EnrolledSite(tmp_path)


def test_help_teaches_in_every_environment() -> None:
    if not (VENVS / "worker" / "bin" / "python").exists():
        pytest.skip("the worker environment is not set up: run `python -m fededge.host`")
    for arguments in ([], ["enroll"], ["run"], ["status"], ["verify"]):
        told = subprocess.run(
            [sys.executable, "-m", "fededge", "site", *arguments, "--help"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        assert "usage: fededge site" in told.stdout


def test_a_site_is_enrolled_run_and_looked_at(
    site: EnrolledSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    folder, policy = ["--folder", str(site.folder)], ["--policy", str(site.policy_file)]

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            enroll = ["enroll", gateway.url, "--token-file", str(tmp_path / "token"), *folder]
            for _ in range(2):
                assert await asyncio.to_thread(main, enroll, RUNNER) == 0
                assert f"site {CLIENT} of {TENANT} at {gateway.url}" in capsys.readouterr().out
                (tmp_path / "token").unlink(missing_ok=True)  # it is needed once
            async with site.process(gateway) as process:
                await gateway.hears(Hello)
                await gateway.tell(gateway.order())
                await gateway.hears(ReportMessage)
                process.send_signal(signal.SIGTERM)
                assert (await gateway.hears(Bye)).reason == "ENDING"
                _, log = await process.communicate()
                assert process.returncode == 0
        words = log.decode()
        for line in (
            f"connected to {gateway.url} as {CLIENT}",
            "round r-1: accepted: train of task wearables, round 1 (ada)",
            "round r-1: training",
            "round r-1: uploading",
            "round r-1: done: kept",
        ):
            assert line in words
        assert "/v1/objects" not in words  # an address is as good as a password

    in_loop(scenario)
    assert main(["status", *folder, *policy], RUNNER) == 0
    told = capsys.readouterr().out
    assert "dataset    steps: 40 training and 0 test examples" in told
    assert "train of wearables, round 1: kept (rule ada)" in told
    assert main(["status", "--json", *folder, *policy], RUNNER) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["client"] == CLIENT
    assert main(["verify", *folder], RUNNER) == 0
    assert "each follows the one before" in capsys.readouterr().out
    with (site.folder / "journal.jsonl").open("a") as file:
        file.write("{}\n")
    assert main(["verify", *folder], RUNNER) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_site_without_identity_policy_or_folder_of_its_own_says_what_to_do(
    site: EnrolledSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--folder", str(site.folder), "--policy", str(site.policy_file)]

    def refused(arguments: list[str]) -> str:
        assert main(arguments, RUNNER) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        return told

    assert "fededge site enroll" in refused(run)
    assert "fededge site enroll" in refused(["status", "--folder", str(site.folder)])

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            assert "another client runs in" in await asyncio.to_thread(refused, run)

    in_loop(scenario)
    site.policy_file.write_text("rules: {}")
    assert "policy.yaml:1: " in refused(run)
    (tmp_path / "token").write_text("short")
    enroll = [
        "enroll",
        "https://localhost:1",
        "--token-file",
        str(tmp_path / "token"),
        "--folder",
        str(tmp_path),
    ]
    assert "that is no token" in refused(enroll)
