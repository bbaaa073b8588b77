"""A device follows releases by way of its gateway: proven, tried in a child, swapped in, and told."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge import storage
from fededge.protocol import Follow, Hello
from fededge.signing import SigningKey
from tests.enrolled_site import ROOT, in_loop
from tests.following_device import (
    FIRST,
    SECOND,
    Device,
    failed,
    fetches,
    manifest,
    offered,
    runs,
    signed,
    told,
)
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_release_is_followed_served_told_and_runs_on_without_the_gateway(device: Device) -> None:
    x = np.random.default_rng(1).random((2, 4, 4, 1), dtype=np.float32)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway), httpx.AsyncClient() as http:
                running = await told(gateway, runs(1))
                assert (running.kind, running.digest) == ("float32", storage.digest(FIRST))
                assert running.latency_ms is not None
                first = await device.predict(http, x)
                assert first["meta"]["tags"]["model_version"] == "1"
                await offered(gateway, signed(2, SECOND), SECOND)
                await told(gateway, runs(2))
                second = await device.predict(http, x)
                assert second["meta"]["tags"]["digest"] == storage.digest(SECOND)
                assert second["data"] != first["data"]
            gateway._server.close()
            async with device.running(gateway), httpx.AsyncClient() as http:
                while True:
                    try:
                        assert (await device.predict(http, x))["data"] == second["data"]
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.01)

    in_loop(scenario)


def test_a_poll_of_an_unchanged_release_is_small_and_fetches_nothing(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, runs(1))
                asked = fetches(gateway)
                poll = await gateway.hears(Follow, len(gateway.heard(Follow)) + 2)
                assert asked == []
                assert poll.releases[0].running is None
                assert len(poll.model_dump_json(exclude_none=True)) < 300

    in_loop(scenario)


def test_no_request_is_lost_while_models_are_swapped(device: Device) -> None:
    x = np.random.default_rng(2).random((20, 4, 4, 1), dtype=np.float32)
    versions: set[str] = set()

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway), httpx.AsyncClient() as http:
                await told(gateway, runs(1))
                over = asyncio.Event()

                async def ask() -> None:
                    while not over.is_set():
                        answer = await device.predict(http, x)
                        versions.add(answer["meta"]["tags"]["model_version"])
                        assert len(answer["data"]["ndarray"]) == 20

                asking = [asyncio.create_task(ask()) for _ in range(4)]
                for version in range(2, 6):
                    model = SECOND if version % 2 == 0 else FIRST
                    await offered(gateway, signed(version, model), model)
                    await told(gateway, runs(version))
                    answer = await device.predict(http, x)
                    assert answer["meta"]["tags"]["model_version"] == str(version)
                over.set()
                await asyncio.gather(*asking)

    in_loop(scenario)
    assert len(versions) > 1
    assert versions <= {"1", "2", "3", "4", "5"}


WRONG = {
    "cut short": signed(2, SECOND)[:-40],
    "changed after signing": signed(2, SECOND).replace(b'version\\":2', b'version\\":3'),
    "is trusted here": signed(2, SECOND, SigningKey(Ed25519PrivateKey.from_private_bytes(b"\4" * 32))),
    "is for task 'other'": signed(2, SECOND, task="other"),
    "'camera'": signed(2, SECOND, devices={"kiosk": manifest(2, SECOND).devices["camera"]}),
    "issued no later": signed(2, SECOND, issued=1.0),
    "another model than the release names": signed(2, FIRST),
    "gives 3 outputs": signed(2, SECOND, classes=4),
}
"""Envelopes by why they are refused."""


def test_a_release_that_is_not_right_is_refused_and_what_runs_goes_on(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, runs(1))
                for reason, envelope in WRONG.items():
                    await offered(gateway, envelope, SECOND)
                    refused = await told(gateway, failed(reason))
                    assert (refused.version, refused.digest) == (1, storage.digest(FIRST))
                asked = fetches(gateway)
                await gateway.hears(Follow, len(gateway.heard(Follow)) + 2)
                assert asked == []  # what was refused is not fetched again
                await offered(gateway, signed(3, SECOND), SECOND)
                await told(gateway, runs(3))

    in_loop(scenario)


def test_a_model_larger_than_announced_or_allowed_is_refused(device: Device) -> None:
    device.follow(limits={"download_bytes": 1000})

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, failed("download_bytes"))
                device.follow()
                gateway.release(signed(2, FIRST), FIRST)
                gateway.objects[storage.digest(FIRST).removeprefix("sha256:")] = FIRST + b"more"
                await told(gateway, failed("more than the"))

    in_loop(scenario)


@pytest.mark.parametrize("what", ["releases", "store", "both but the policy's floor"])
def test_a_device_that_was_wiped_takes_no_older_release(device: Device, what: str) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(2, SECOND), SECOND)
            async with device.running(gateway):
                await told(gateway, runs(2))
            if what != "store":
                shutil.rmtree(device.releases)
            if what != "releases":
                (device.folder / "store.db").unlink()
            if what.startswith("both"):
                device.follow(issued_after=1.5)
            gateway.said.clear()
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway):
                await told(gateway, failed("issued no later"))
                await offered(gateway, signed(2, SECOND), SECOND)
                await told(gateway, runs(2))

    in_loop(scenario)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Lets whatever model is tried do harm: the child runs this instead of LiteRT."""
    folder = tmp_path / "harm"
    (folder / "ai_edge_litert").mkdir(parents=True)
    (folder / "ai_edge_litert" / "__init__.py").touch()

    def does(code: str) -> None:
        (folder / "ai_edge_litert" / "interpreter.py").write_text(f"import os, signal, time\n{code}\n")
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        monkeypatch.syspath_prepend(str(folder))  # what a process apart gets to see

    return does


HARM = {
    "hangs": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "no answer within the 3 s"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "ends the process that tries it"),
    "eats memory": ("taken = [bytes(1 << 20) for _ in range(10_000)]", "bytes of memory"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_model_that_does_harm_is_refused_remembered_and_not_fetched_again(
    device: Device, broken: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    code, reason = HARM[harm]
    usual = {"memory_bytes": 200_000_000, "seconds": 60}
    device.follow(limits=usual)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with device.running(gateway):
                gateway.release(signed(1, FIRST), FIRST)
                await told(gateway, runs(1))
            broken(code)
            if harm == "hangs":
                device.follow(limits=usual | {"seconds": 3})
            async with device.running(gateway):
                gateway.release(signed(2, SECOND), SECOND)
                refused = await told(gateway, failed(reason))
                assert refused.version == 1
            monkeypatch.undo()
            device.follow(limits=usual)
            gateway.said.clear()
            async with device.running(gateway):
                asked = fetches(gateway)
                await told(gateway, failed("was tried here before"))
                assert storage.digest(SECOND).removeprefix("sha256:") not in asked
                gateway.release(signed(3, FIRST), FIRST)
                await told(gateway, runs(3))

    in_loop(scenario)


def test_a_policy_that_changes_is_followed_without_a_restart(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway), httpx.AsyncClient() as http:
                await told(gateway, runs(1))
                device.follow(**{"class": "kiosk"})
                refused = await told(gateway, failed("has nothing for device class 'kiosk'"))
                assert refused.device_class == "kiosk"
                assert (await http.get(f"http://127.0.0.1:{device.port}/ready")).status_code == 503
                gateway.said.clear()
                device.follow()
                await told(gateway, runs(1))
                assert (await http.get(f"http://127.0.0.1:{device.port}/ready")).status_code == 200

    in_loop(scenario)


def test_samples_that_cannot_be_used_do_not_condemn_the_model(device: Device, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    np.save(samples / "y.npy", np.zeros(2, np.int64))
    np.save(samples / "x.npy", np.zeros((2, 3, 4, 1), np.float32))
    device.follow(samples="samples")

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with device.running(gateway):
                gateway.release(signed(1, FIRST), FIRST)
                await told(gateway, failed("[2, 3, 4, 1]"))
                np.save(samples / "x.npy", np.zeros((2, 4, 4, 1), np.float32))
                gateway.release(signed(2, FIRST), FIRST)
                assert (await told(gateway, runs(2))).score is not None

    in_loop(scenario)


def test_a_gateway_of_version_1_is_not_asked_for_releases(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:

            async def old(session: Any, hello: Hello) -> None:
                text = {"type": "welcome", "version": 1, "session": "s-1", "heartbeat_seconds": 1.0}
                await session.send_text(json.dumps(text))

            gateway.react["hello"] = old
            async with device.running(gateway):
                await gateway.until(lambda: len(gateway.said) >= 4)
                assert gateway.heard(Follow) == []

    in_loop(scenario)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"{}"}, 415),
        ({"content": b"[" + b"0," * (1 << 20), "headers": {"Content-Type": "application/json"}}, 413),
        ({"json": {"data": {"ndarray": [[1.0]]}}}, 400),
        ({"json": {"data": {"ndarray": [1]}}, "headers": {"Host": "evil.example"}}, 400),
    ],
    ids=["malformed", "type", "large", "shape", "host"],
)
def test_a_request_that_is_not_right_is_refused(device: Device, request_: Any, status: int) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway), httpx.AsyncClient() as http:
                await told(gateway, runs(1))
                url = f"http://127.0.0.1:{device.port}/api/v1.0/predictions"
                assert (await http.post(url, **request_)).status_code == status
                assert (await http.get(f"http://127.0.0.1:{device.port}/ready")).status_code == 200

    in_loop(scenario)
