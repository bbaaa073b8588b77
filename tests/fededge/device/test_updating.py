"""Which releases of its own program a device takes, and which it refuses, at a stand-in gateway."""

import zipfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge import __version__, storage
from fededge.device import launcher
from fededge.device.client import Client
from fededge.device.launcher import State
from fededge.documents import PROGRAM, ProgramBundle, ProgramRelease
from fededge.protocol import Follow
from fededge.signing import SigningKey
from tests.enrolled_site import EnrolledSite, in_loop
from tests.following_device import KEY, failed, fetches, offered, signed, told
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\4" * 32))


class Device(EnrolledSite):
    """A client that takes releases of its program for the class camera."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "program.pub.pem").write_bytes(KEY.public.pem)
        self.follow()

    def follow(self, **changes: Any) -> None:
        program = {"class": "camera", "trusted_key": "program.pub.pem"}
        self.write_policy(program=program | changes, poll_seconds=1)

    def started(self, gateway: StandInGateway) -> AbstractAsyncContextManager[Client]:
        """As the launcher starts it."""
        return self.running(gateway, program="agent")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def bundle(folder: Path, name: str = "fededge-0.2.0-py3-none-any.whl") -> bytes:
    """Of a wheel that writes elsewhere."""
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("../elsewhere.py", "")
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        archive.write(folder / name, name)
    return (folder / "bundle.zip").read_bytes()


def manifest(data: bytes, key: SigningKey = KEY, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "version": "0.2.0",
        "issued": 2.0,
        "bundles": {"camera": ProgramBundle(digest=storage.digest(data), bytes=len(data))},
    }
    return key.sign(ProgramRelease(**(fields | changes)).to_content())


def test_a_device_tells_its_version_and_that_what_is_refused_is_not_fetched_again(device: Device) -> None:
    data = bundle(device.root)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with device.started(gateway):
                running = await told(gateway, lambda running: running.status == "running")
                assert (running.task, running.kind) == (PROGRAM, __version__)
                asked = fetches(gateway)
                await offered(gateway, manifest(data), data, PROGRAM)
                await told(gateway, failed("outside its place"))
            assert len(asked) == 2
            gateway.said.clear()
            async with device.started(gateway):
                await told(gateway, failed("not fetched again"))
            assert len(asked) == 2
        assert launcher.read(device.folder) == State()
        assert not (device.folder / "program" / "incoming").exists()

    in_loop(scenario)


async def refused(gateway: StandInGateway, device: Device, envelope: bytes, data: bytes, reason: str) -> None:
    """The device refuses a release, and has not fetched its bundle."""
    gateway.said.clear()
    async with device.started(gateway):
        await gateway.hears(Follow)
        asked = fetches(gateway)
        await offered(gateway, envelope, data, PROGRAM)
        found = await told(gateway, failed(reason))
    gateway.offers.clear()
    assert found.kind == __version__
    assert storage.digest(data).removeprefix("sha256:") not in asked
    assert launcher.read(device.folder) == State()


def test_a_release_of_another_key_or_none_is_refused(device: Device) -> None:
    data = bundle(device.root)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            await refused(gateway, device, manifest(data, OTHER), data, "only sha256:")
            changed = manifest(data).replace(b"0.2.0", b"0.3.0")
            await refused(gateway, device, changed, data, "changed after signing")
            await refused(gateway, device, b"{}", data, "not a signed document")
            await refused(gateway, device, signed(1, data), data, "fededge-program-release-1")

    in_loop(scenario)


def test_a_release_that_is_for_others_too_large_or_too_old_is_refused(device: Device) -> None:
    data = bundle(device.root)
    others = {"hub": ProgramBundle(digest=storage.digest(data), bytes=len(data))}

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            envelope = manifest(data, bundles=others)
            await refused(gateway, device, envelope, data, "nothing for device class 'camera'")
            await refused(gateway, device, manifest(b"other"), data, "another bundle than the release names")
            device.follow(download_bytes=100)
            await refused(gateway, device, manifest(data), data, "program.download_bytes")
            device.follow(issued_after=2.0)
            await refused(gateway, device, manifest(data), data, "issued no later")

    in_loop(scenario)


def test_a_release_without_this_class_changes_nothing(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, device.started(gateway):
            await gateway.hears(Follow)
            asked = fetches(gateway)
            data = bundle(device.root)
            gateway.release(manifest(data), data, PROGRAM)
            gateway.offers[PROGRAM] = gateway.offers[PROGRAM].model_copy(update={"model": None})
            await gateway.hears(Follow, 3)
            assert asked == []

    in_loop(scenario)


def test_what_does_not_come_up_is_told_and_not_fetched_again(device: Device) -> None:
    """As the launcher leaves it that went back."""
    data = bundle(device.root)
    envelope = manifest(data)
    folder = device.folder / "program" / "releases" / "0.2.0-0123456789abcdef"
    storage.write(str(folder / "manifest.json"), envelope)
    (folder / "packages").mkdir()
    launcher.write(device.folder, State(failed=folder.name))

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(envelope, data, PROGRAM)
            asked = fetches(gateway)
            async with device.started(gateway):
                running = await told(gateway, failed("gone back from release 0.2.0-"))
                assert running.kind == __version__
                await gateway.hears(Follow, 2)
            assert asked == []
        assert not (folder / "packages").exists()

    in_loop(scenario)


def test_a_program_that_runs_takes_none_that_is_older(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay is refused, whether or not the files of what runs are there."""
    data = bundle(device.root)
    name = "0.2.0-0123456789abcdef"
    folder = device.folder / "program" / "releases" / name
    storage.write(str(folder / "manifest.json"), manifest(data, issued=5.0))
    launcher.write(device.folder, State(current=name, confirmed=False))
    monkeypatch.setenv(launcher.VARIABLE, name)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with device.started(gateway):
                await gateway.hears(Follow)
            assert launcher.read(device.folder) == State(current=name)
            monkeypatch.delenv(launcher.VARIABLE)
            launcher.write(device.folder, State())
            envelope = manifest(data, issued=4.0)
            await refused(gateway, device, envelope, data, "issued no later than one that ran here")

    in_loop(scenario)
