"""A device that is killed, cut off or full in the middle of a swap runs the one release or the other, whole."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from fededge.device.installation import Installation
from fededge.signing import TrustedKey
from tests.enrolled_site import ROOT, in_loop
from tests.following_device import FIRST, SECOND, Device, failed, offered, runs, signed, told
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")
X = np.random.default_rng(1).random((2, 4, 4, 1), dtype=np.float32)

KILLED_AT = {
    "fetched": "releases.Follower._tried = die",
    "tried": "Installation.install = die",
    "staged": "storage.write = lambda url, data: die() if url.endswith('running.json') else write(url, data)",
    "swapped": "Store.installed = die",
}
"""What makes an agent die there, as a power failure would: between one write and the next."""
PROGRAM = """
import os, signal, sys
from fededge import storage
from fededge.device import releases, site
from fededge.device.installation import Installation
from fededge.device.store import Store
from fededge.__main__ import LITERT
write = storage.write
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
{patch}
sys.exit(site.main(sys.argv[1:], LITERT, site.AGENT))
"""


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


async def started(device: Device, patch: str) -> asyncio.subprocess.Process:
    """The agent as a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM.format(patch=patch)),
        *("run", "--folder", str(device.folder), "--policy", str(device.policy_file)),
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def installed(device: Device) -> int:
    """The version that `running.json` names, proven from signature to bytes."""
    installation = Installation(
        device.releases, "tiny", "camera", TrustedKey.load(device.root / "release.pub.pem")
    )
    try:
        return installation.open(installation.names()[0]).manifest.version
    finally:
        installation.close()


async def answering(device: Device) -> str:
    """The version that answers, once any does."""
    async with httpx.AsyncClient() as http:
        while True:
            try:
                answer = await device.predict(http, X)
            except httpx.ConnectError:
                await asyncio.sleep(0.01)
                continue
            return str(answer["meta"]["tags"]["model_version"])


@pytest.mark.slow
@pytest.mark.parametrize("where", KILLED_AT)
def test_an_agent_killed_while_it_installs_runs_a_whole_release_and_goes_on(
    device: Device, where: str
) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, runs(1))
            gateway.release(signed(2, SECOND), SECOND)
            process = await started(device, KILLED_AT[where])
            _, log = await process.communicate()
            assert process.returncode == -signal.SIGKILL, log
            expected = 2 if where == "swapped" else 1
            assert installed(device) == expected
            gateway._server.close()  # nobody is asked what to run
            async with device.running(gateway):
                assert await answering(device) == str(expected)
            gateway._server = await asyncio.start_server(gateway._serve, "127.0.0.1", gateway.port)
            gateway.said.clear()
            async with device.running(gateway):
                await told(gateway, runs(2))
                assert await answering(device) == "2"
            assert [each.name for each in device.releases.iterdir() if each.name.startswith(".")] == []
            assert len(list((device.releases / "releases").iterdir())) == 2

    in_loop(scenario)


@pytest.mark.slow
def test_the_child_that_tries_a_model_ends_with_its_agent(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            await device.enroll(gateway)
            gateway.release(signed(1, FIRST), FIRST)
            wait = "from fededge.device import trial\ntrial.__name__ = 'http.server'"  # a child that stays
            process = await started(device, wait)
            agent = psutil.Process(process.pid)

            def trying() -> list[psutil.Process]:
                found = []
                for child in agent.children(recursive=True):
                    with suppress(psutil.Error):  # it ended meanwhile
                        found += [child] if "http.server" in child.cmdline() else []
                return found

            while not (children := trying()):
                await asyncio.sleep(0.01)
            process.kill()
            await process.communicate()
            _, alive = await asyncio.to_thread(psutil.wait_procs, children, 30)
            assert alive == []

    in_loop(scenario)


class Writes:
    """Watches that what is renamed was synced before, and its folder is synced after.

    Not so a file that was fetched: its digest is proven again whenever it is found there.
    """

    def __init__(self) -> None:
        self.synced: set[tuple[int, int]] = set()
        self.unsynced: set[str] = set()
        self.renamed: list[str] = []

    def fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.synced.add((found.st_ino, found.st_size))
        self.unsynced.discard(os.readlink(f"/proc/self/fd/{descriptor}"))

    def rename(self, source: Any, target: Any) -> None:
        if Path(source).suffix == ".part":
            return
        files = [Path(source), *Path(source).rglob("*")]
        for file in files:
            found = file.stat()
            assert (found.st_ino, found.st_size) in self.synced, f"{file} is relied on before it is synced"
        self.unsynced.add(str(Path(target).resolve().parent))
        self.renamed.append(Path(target).name)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    watched = Writes()

    sync, moves = os.fsync, {name: getattr(os, name) for name in ("rename", "replace")}

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        watched.fsync(descriptor)

    def moved(name: str, source: Any, target: Any) -> None:
        watched.rename(source, target)
        moves[name](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    for name in moves:
        monkeypatch.setattr(os, name, partial(moved, name))
    return watched


def test_every_file_is_synced_before_it_is_relied_on(device: Device, writes: Writes) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, runs(1))
                await offered(gateway, signed(2, SECOND), SECOND)
                await told(gateway, runs(2))

    in_loop(scenario)
    assert writes.renamed.count("running.json") == 2
    assert [name for name in writes.renamed if name.startswith("2-")]
    assert writes.unsynced == set()


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_a_disk_that_fills_up_in_a_swap_keeps_what_runs_until_there_is_room(
    device: Device, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, full = getattr(os, call), asyncio.Event()

    def write(*arguments: Any) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        real(*arguments)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, runs(1))
                install = Installation.install

                def filling(self: Installation, *arguments: Any) -> None:
                    full.set()
                    try:
                        install(self, *arguments)
                    finally:
                        full.clear()

                with monkeypatch.context() as patch:
                    patch.setattr(os, call, write)
                    patch.setattr(Installation, "install", filling)
                    await offered(gateway, signed(2, SECOND), SECOND)
                    refused = await told(gateway, failed("No space left on device"))
                    assert refused.version == 1
                    assert await answering(device) == "1"
                await told(gateway, runs(2))

    in_loop(scenario)
    assert installed(device) == 2
