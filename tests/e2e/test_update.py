"""An agent that is installed from a wheel updates itself, and goes back from a program that does not come up."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fededge import __version__
from fededge.documents import PROGRAM
from fededge.fleet.registry.database import Registry
from fededge.signing import SigningKey
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token

from .conftest import ROOT, VENVS, wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BROKEN = """

async def _broken(self):
    raise RuntimeError("broken")


Client.run = _broken
"""
"""What a release adds to its client: it reads all that is there, and ends as soon as it is to connect."""


KILLED_AT = {
    "downloaded": "programs.Programs.install = die",
    "installed": "programs.Programs.try_out = die",
    "tried": "launcher.write = die",
    "switched": "client.Client.end = die",
}
"""What makes an agent die there, as a power failure would: between one write and the next."""
KILLED = """
import os, signal, sys
from fededge.__main__ import main
from fededge.device import client, launcher, programs
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
{patch}
sys.exit(main())
"""


def changed(tree: Path, folder: Path, version: str, added: str = "") -> None:
    """Build the wheel of another version, which also has `added` in its client."""
    copy = folder.with_suffix(".tree")
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    code = copy / "fededge" / "__init__.py"
    code.write_text(code.read_text().replace(f'"{__version__}"', f'"{version}"'))
    with (copy / "fededge" / "device" / "client.py").open("a") as client:
        client.write(added)
    wheel(copy, folder)


def killed(device: Path, arguments: list[str], where: str) -> str:
    """What the agent said until it was killed there."""
    done = subprocess.run(
        [device / "bin" / "python", "-c", KILLED.format(patch=KILLED_AT[where]), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stderr


@contextmanager
def running(
    device: Path, arguments: list[str], log: Path, ended_by: signal.Signals = signal.SIGTERM
) -> Iterator[None]:
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [device / "bin" / "fededge", *arguments],
            stderr=stream,
            env={"PATH": os.defpath, "HOME": str(log.parent)},
        )
    try:
        yield
        assert process.poll() is None
        process.send_signal(ended_by)
        assert process.wait(60) == (0 if ended_by is signal.SIGTERM else -ended_by)
    finally:
        process.kill()
        process.wait()


def test_an_agent_takes_a_new_version_and_goes_back_from_one_that_does_not_come_up(
    tree: Path, device: Path, tmp_path: Path
) -> None:
    changed(tree, tmp_path / "good", "0.2.0")
    changed(tree, tmp_path / "bad", "0.3.0", BROKEN)
    SigningKey.create(tmp_path / "program.pem")
    policy = tmp_path / "policy.yaml"
    program = {"class": "camera", "trusted_key": "program.pub.pem", "confirm_seconds": 60}
    policy.write_text(yaml.safe_dump({"program": program, "poll_seconds": 1}))
    folder, log = tmp_path / "agent", tmp_path / "agent.log"

    with Gateway.start(tmp_path) as gateway:
        registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
        secret = token(registry)
        registry.close()
        operator = Operator(gateway.url, secret)
        (tmp_path / "token").write_text(secret)

        def release(wheels: str) -> None:
            subprocess.run(
                [
                    *(VENVS / "platform" / "bin" / "python", "-m", "fededge", "clients", "update"),
                    *(f"camera={tmp_path / wheels}", "--key", tmp_path / "program.pem"),
                ],
                check=True,
                env=os.environ
                | {
                    "FEDEDGE_GATEWAY": gateway.url,
                    "FEDEDGE_GATEWAY_TOKEN_FILE": str(tmp_path / "token"),
                    "PYTHONPATH": str(ROOT),
                },
            )

        def tells(version: str, status: str, error: str = "") -> None:
            while True:
                client = operator("GET", "/v1/clients/hall")
                told = [each for each in client["running"] if each["task"] == PROGRAM]
                good = [
                    each
                    for each in told
                    if (each["kind"], each["status"]) == (version, status) and error in each.get("error", "")
                ]
                if good and client["connected"] and client["software"] == version:
                    return
                time.sleep(0.2)

        made = operator("POST", "/v1/enrollments", {"client": "hall", "kind": "device"})["items"][0]
        (tmp_path / "enrollment").write_text(made["token"])
        subprocess.run(
            [
                *(device / "bin" / "fededge", "agent", "enroll", gateway.url),
                *("--folder", folder, "--token-file", tmp_path / "enrollment"),
            ],
            check=True,
            env={"PATH": os.defpath},
        )
        arguments = ["agent", "run", "--folder", str(folder), "--policy", str(policy)]
        with running(device, arguments, log):
            tells(__version__, "running")
        release("good")
        for phase in KILLED_AT:
            said = killed(device, arguments, phase)
            assert "connected to" in said
            assert f"is {phase}" in said
        with running(device, arguments, log, signal.SIGKILL):
            tells("0.2.0", "running")
        assert "is confirmed" in log.read_text()
        with running(device, arguments, log):
            tells("0.2.0", "running")
            release("bad")
            tells("0.2.0", "failed", "gone back from")
        with running(device, arguments, log):
            tells("0.2.0", "failed", "gone back from")
        operator.http.close()
    state = json.loads((folder / "program" / "state.json").read_text())
    assert state["confirmed"]
    assert state["current"].startswith("0.2.0-")
    assert state["failed"].startswith("0.3.0-")
    said = log.read_text()
    assert said.count("is switched to") == 1
    assert said.count("RuntimeError: broken") == 3
