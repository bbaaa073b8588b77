"""The agent: follows genuine releases, and whatever happens keeps running the last good one."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge import storage
from fededge.device.agent import Agent, main
from fededge.device.installation import Installation
from fededge.device.samples import Samples
from fededge.device.transport import BlobTransport
from fededge.documents import DeviceReport, VariantFile
from fededge.errors import IntegrityError, ReleaseError
from fededge.fleet import release
from fededge.fleet.reports import collect
from fededge.signing import SigningKey, TrustedKey

pytestmark = pytest.mark.environment("edge")

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
WEIGHTS = 500  # a byte among the weights (456 to 647): the model still loads when it is changed
fork = multiprocessing.get_context("fork")


class Device:
    """One device of the fleet whose agent can be stopped and started."""

    def __init__(self, fleet: Any, folder: Path, samples: Samples | None = None) -> None:
        self.fleet, self.folder, self.samples = fleet, folder, samples
        self.transport = BlobTransport(fleet.root, "tiny")

    def start(self) -> Agent:
        trusted = TrustedKey.load(self.fleet.trusted_key)
        self.installation = Installation(self.folder, "tiny", "camera", trusted)
        agent = Agent("camera-0", "camera", self.installation, self.transport, self.samples)
        agent.restore()
        return agent

    def restart(self) -> Agent:
        self.installation.close()
        return self.start()

    def installed(self) -> list[str]:
        return sorted(folder.name for folder in (self.folder / "releases").iterdir())


@pytest.fixture
def device(fleet: Any, tmp_path: Path, examples: Any) -> Device:
    return Device(fleet, tmp_path / "device", Samples(*examples))


def test_a_release_is_followed_and_reported(fleet: Any, device: Device) -> None:
    manifest = fleet.publish(1)
    report = device.start().poll()
    assert collect(fleet.root, "tiny") == [report]
    assert (report.device, report.device_class, report.version) == ("camera-0", "camera", 1)
    assert (report.kind, report.digest) == ("float32", manifest.variant_for("camera").digest)
    assert (report.status, report.error, report.score) == ("running", None, 1.0)
    assert report.latency_ms is not None


def test_accuracy_is_measured_on_the_devices_own_samples(fleet: Any, device: Device, examples: Any) -> None:
    x, y = examples
    device.samples = Samples(x, np.where(np.arange(40) < 10, (y + 1) % 3, y))
    fleet.publish(1)
    assert device.start().poll().score == 0.75


@pytest.mark.parametrize(
    "samples", [None, Samples(np.zeros((0, 4, 4, 1), np.float32), np.zeros(0, np.int64))]
)
def test_a_device_without_samples_runs_the_release_without_accuracy(
    fleet: Any, device: Device, samples: Samples | None
) -> None:
    device.samples = samples
    fleet.publish(1)
    report = device.start().poll()
    assert (report.status, report.score) == ("running", None)


def test_before_any_release_the_device_says_that_it_runs_nothing(device: Device) -> None:
    report = device.start().poll()
    assert (report.status, report.version, report.digest, report.score) == ("failed", None, None, None)
    assert report.error is not None
    assert "no release for task tiny" in report.error


def test_a_newer_release_replaces_the_older_which_is_kept(fleet: Any, device: Device) -> None:
    fleet.publish(1)
    agent = device.start()
    agent.poll()
    fleet.publish(2, "second")
    assert agent.poll().version == 2
    fleet.publish(3, "first")
    assert agent.poll().version == 3
    assert [name.split("-")[0] for name in device.installation.names()] == ["3", "2"]
    assert device.installed() == sorted(device.installation.names())


def test_an_unchanged_release_is_not_downloaded_again(fleet: Any, device: Device) -> None:
    manifest = fleet.publish(1)
    agent = device.start()
    agent.poll()
    Path(fleet.model_url(manifest).removeprefix("file://")).unlink()
    assert agent.poll().status == "running"
    assert device.restart().poll().status == "running"


def test_a_restarted_agent_runs_what_was_installed_without_the_store(
    fleet: Any, device: Device, tmp_path: Path
) -> None:
    fleet.publish(1)
    device.start().poll()
    shutil.rmtree(tmp_path / "storage")
    report = device.restart().poll()
    assert (report.version, report.score, report.status) == (1, 1.0, "failed")


def keeps_the_first(device: Device, agent: Agent, message: str) -> None:
    """The agent refuses what is published now, says so, and goes on with release 1, also after a restart."""
    for refused in (agent.poll(), device.restart().poll()):
        assert (refused.version, refused.status, refused.score) == (1, "failed", 1.0)
        assert message in str(refused.error)
    assert collect(device.fleet.root, "tiny")[0].status == "failed"
    assert [name.split("-")[0] for name in device.installation.names()] == ["1"]


@pytest.fixture
def agent(fleet: Any, device: Device) -> Agent:
    """An agent that runs release 1."""
    fleet.publish(1)
    agent = device.start()
    assert agent.poll().version == 1
    return agent


def test_a_tampered_manifest_is_refused(fleet: Any, device: Device, agent: Agent) -> None:
    fleet.publish(2, "second")
    storage.write(fleet.url, storage.read(fleet.url).replace(b'version\\":2', b'version\\":3'))
    keeps_the_first(device, agent, "changed after signing")


def test_a_truncated_manifest_is_refused(fleet: Any, device: Device, agent: Agent) -> None:
    fleet.publish(2, "second")
    storage.write(fleet.url, storage.read(fleet.url)[:-40])
    keeps_the_first(device, agent, "cut short")


def test_a_release_by_a_wrong_key_is_refused(fleet: Any, device: Device, agent: Agent) -> None:
    stranger = SigningKey(Ed25519PrivateKey.generate())
    storage.write(fleet.url, stranger.sign(fleet.manifest(2, "second").to_content()))
    keeps_the_first(device, agent, "is trusted here")


def test_tampered_model_bytes_are_refused(fleet: Any, device: Device, agent: Agent) -> None:
    manifest = fleet.publish(2, "second")
    data = bytearray(storage.read(fleet.model_url(manifest)))
    data[WEIGHTS] ^= 1
    storage.write(fleet.model_url(manifest), bytes(data))
    keeps_the_first(device, agent, "changed or damaged")


def test_a_truncated_model_is_refused(fleet: Any, device: Device, agent: Agent) -> None:
    manifest = fleet.publish(2, "second")
    storage.write(fleet.model_url(manifest), storage.read(fleet.model_url(manifest))[:-1])
    keeps_the_first(device, agent, "changed or damaged")


def test_a_missing_model_is_reported(fleet: Any, device: Device, agent: Agent) -> None:
    manifest = fleet.publish(2, "second")
    Path(fleet.model_url(manifest).removeprefix("file://")).unlink()
    keeps_the_first(device, agent, "cannot read")


@pytest.mark.parametrize("model", [b"not a model", (FIXTURES / "second.tflite").read_bytes()[:400]])
def test_a_genuine_release_of_a_broken_model_is_refused(
    fleet: Any, device: Device, agent: Agent, model: bytes
) -> None:
    fleet.publish(2, model)
    keeps_the_first(device, agent, "model")


def test_a_model_with_other_outputs_than_released_is_refused(
    fleet: Any, device: Device, agent: Agent
) -> None:
    manifest = fleet.manifest(2, "second").model_copy(update={"classes": 4})
    release.publish(fleet.root, manifest, fleet.key)
    keeps_the_first(device, agent, "gives 3 outputs, but was released for [4, 4, 1] and 4")


def test_a_model_for_other_inputs_than_the_samples_is_refused(
    fleet: Any, device: Device, agent: Agent
) -> None:
    manifest = fleet.manifest(2, "second").model_copy(update={"shape": [5, 4, 1]})
    release.publish(fleet.root, manifest, fleet.key)
    keeps_the_first(device, agent, "takes [4, 4, 1] and gives 3 outputs, but was released for [5, 4, 1]")


def test_samples_of_another_shape_than_the_model_takes_are_reported(
    fleet: Any, device: Device, examples: Any
) -> None:
    device.samples = Samples(examples[0][:, :3], examples[1])
    fleet.publish(1)
    report = device.start().poll()
    assert (report.version, report.status) == (None, "failed")
    assert "[40, 3, 4, 1]" in str(report.error)


def test_a_release_without_this_class_is_refused(fleet: Any, device: Device, agent: Agent) -> None:
    manifest = fleet.manifest(2, "second")
    others = {name: variant for name, variant in manifest.devices.items() if name != "camera"}
    release.publish(fleet.root, manifest.model_copy(update={"devices": others}), fleet.key)
    keeps_the_first(device, agent, "'camera'")


def test_an_older_release_played_back_is_refused_but_a_rollback_is_followed(
    fleet: Any, device: Device
) -> None:
    fleet.publish(1)
    old = storage.read(fleet.url)
    fleet.publish(2, "second")
    agent = device.start()
    assert agent.poll().version == 2
    newest = storage.read(fleet.url)
    storage.write(fleet.url, old)
    for refused in (agent.poll(), device.restart().poll()):
        assert (refused.version, refused.status) == (2, "failed")
        assert "issued no later" in str(refused.error)
    storage.write(fleet.url, newest)
    agent = device.restart()
    fleet.publish(1)
    report = agent.poll()
    assert (report.version, report.status) == (1, "running")


def test_two_releases_issued_at_one_moment_do_not_replace_each_other(
    fleet: Any, device: Device, agent: Agent
) -> None:
    issued = fleet.publish(1).issued
    twin = fleet.manifest(2, "second").model_copy(update={"issued": issued})
    storage.write(fleet.url, fleet.key.sign(twin.to_content()))
    keeps_the_first(device, agent, "issued no later")


def test_once_the_fault_is_fixed_the_release_is_followed(fleet: Any, device: Device, agent: Agent) -> None:
    fleet.publish(2, "second")
    good = storage.read(fleet.url)
    storage.write(fleet.url, good[:-40])
    keeps_the_first(device, agent, "cut short")
    storage.write(fleet.url, good)
    report = device.restart().poll()
    assert (report.version, report.status, report.error) == (2, "running", None)


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[WEIGHTS if file.name == "model" else len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["model", "manifest.json"])
def test_a_damaged_installation_falls_back_to_the_previous_and_is_fetched_again(
    fleet: Any, device: Device, agent: Agent, file: str
) -> None:
    fleet.publish(2, "second")
    agent.poll()
    damage(device.folder / "releases" / device.installation.names()[0] / file)
    agent = device.restart()
    assert agent.running is not None
    assert agent.running.release.manifest.version == 1
    assert agent.poll().version == 2
    assert device.restart().running is not None


@pytest.mark.parametrize("text", ["", "{}", '{"current": "../../etc", "previous": null}', "null"])
def test_a_damaged_pointer_means_fetching_again(device: Device, agent: Agent, text: str) -> None:
    (device.folder / "running.json").write_text(text)
    agent = device.restart()
    assert agent.running is None
    assert agent.poll().version == 1
    assert [name.split("-")[0] for name in device.installation.names()] == ["1"]


@pytest.mark.parametrize("call", ["fsync", "replace", "rename"])
def test_a_full_disk_keeps_the_running_release(
    fleet: Any, device: Device, agent: Agent, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    fleet.publish(2, "second")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        report = agent.poll()
    assert (report.version, report.status) == (1, "failed")
    assert "No space left on device" in str(report.error)
    assert [name.split("-")[0] for name in device.installation.names()] == ["1"]
    assert [name.split("-")[0] for name in device.installed() if name.startswith(".")] == []
    agent = device.restart()
    assert agent.running is not None
    assert agent.running.release.manifest.version == 1
    assert agent.poll().version == 2


def test_files_that_may_not_grow_keep_the_running_release(fleet: Any, device: Device, agent: Agent) -> None:
    fleet.publish(2, "second")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))  # reports fit, models do not
        os._exit(0 if agent.poll().status == "failed" else 1)

    assert exit_code(limited) == 0
    report = collect(fleet.root, "tiny")[0]
    assert (report.version, report.status) == (1, "failed")
    assert "File too large" in str(report.error)
    assert agent.poll().version == 2


def exit_code(work: Callable[[], None]) -> int | None:
    """Exit code of `work` in a forked process; minus the signal's number when one killed it."""
    process = fork.Process(target=work)
    process.start()
    process.join(60)
    code = process.exitcode
    process.kill()
    return code


STEPS = [(os, "fsync"), (os, "replace"), (os, "rename"), (os, "chmod"), (shutil, "rmtree"), (os, "mkdir")]


def killed_at(agent: Agent, number: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> bool:
    """Poll in a process that is killed before or after its `number`-th file operation; whether it was."""
    passed = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = operation(*arguments, **options)
            if passed >= number and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    def work() -> None:
        agent.poll()
        os._exit(0)

    with monkeypatch.context() as patch:
        for module, name in STEPS:
            patch.setattr(module, name, counted(getattr(module, name)))
        return exit_code(work) == -signal.SIGKILL


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_agent_killed_at_any_file_operation_loses_nothing(
    fleet: Any, device: Device, agent: Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: bool
) -> None:
    fleet.publish(2, "second")
    device.installation.close()
    shutil.copytree(device.folder, tmp_path / "before")
    versions = set()
    for number in range(1, 100):
        shutil.rmtree(device.folder)
        shutil.copytree(tmp_path / "before", device.folder)
        interrupted = killed_at(device.start(), number, monkeypatch, after=after)
        restarted = device.restart()
        assert restarted.running is not None
        versions.add(restarted.running.release.manifest.version)
        report = restarted.poll()
        assert (report.version, report.status) == (2, "running")
        assert [name.split("-")[0] for name in device.installation.names()] == ["2", "1"]
        device.installation.close()
        if not interrupted:
            break
    assert not interrupted
    assert number > 10
    assert versions == {1, 2}


def test_a_second_agent_on_the_same_folder_is_refused(fleet: Any, device: Device, agent: Agent) -> None:
    with pytest.raises(ReleaseError, match="another agent works in"):
        Device(fleet, device.folder).start()


def test_a_lost_store_is_survived_and_the_report_handed_in_later(
    fleet: Any, device: Device, agent: Agent, tmp_path: Path
) -> None:
    store = tmp_path / "storage"
    store.rename(tmp_path / "away")
    store.write_text("not a folder")
    assert (agent.poll().version, agent.poll().status) == (1, "failed")
    store.unlink()
    (tmp_path / "away").rename(store)
    assert agent.poll().status == "running"
    assert collect(fleet.root, "tiny")[0].status == "running"


def test_another_transport_serves_as_well_and_is_trusted_no_more(fleet: Any, device: Device) -> None:
    class Gateway:
        """Answers from memory; lies about the model when told."""

        lies = False

        def __init__(self) -> None:
            self.reports: list[DeviceReport] = []

        def fetch_release(self) -> bytes:
            return storage.read(fleet.url)

        def fetch_model(self, variant: VariantFile) -> bytes:
            return b"something else" if self.lies else storage.read(variant.url)

        def report(self, report: DeviceReport) -> None:
            self.reports.append(report)

    gateway = Gateway()
    device.transport = gateway  # type: ignore[assignment]
    fleet.publish(1)
    agent = device.start()
    agent.poll()
    gateway.lies = True
    fleet.publish(2, "second")
    agent.poll()
    assert [(report.version, report.status) for report in gateway.reports] == [(1, "running"), (1, "failed")]


# The command


def save(folder: Path, samples: tuple[np.ndarray, np.ndarray]) -> Path:
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", samples[0])
    np.save(folder / "y.npy", samples[1])
    return folder


@pytest.fixture
def options(fleet: Any, tmp_path: Path, examples: Any) -> list[str]:
    samples = save(tmp_path / "samples", examples)
    folder = tmp_path / "device"
    identity = ["tiny", "--device", "camera-0", "--class", "camera", "--folder", str(folder)]
    return [
        *identity,
        "--storage",
        fleet.root,
        "--trusted-key",
        str(fleet.trusted_key),
        "--samples",
        str(samples),
    ]


def test_the_command_polls_once_and_prints_the_report(
    fleet: Any, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    fleet.publish(1)
    assert main([*options, "--once"]) == 0
    assert DeviceReport.from_bytes(capsys.readouterr().out.encode()) == collect(fleet.root, "tiny")[0]


def test_the_command_fails_once_the_release_cannot_be_followed(fleet: Any, options: list[str]) -> None:
    fleet.publish(1)
    storage.write(fleet.url, b"{}")
    assert main([*options, "--once"]) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--trusted-key", "/nowhere/key.pem"), "/nowhere/key.pem"),
        (("--samples", "/nowhere"), "/nowhere/x.npy"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(
    options: list[str], capsys: pytest.CaptureFixture, changed: tuple[str, str], message: str
) -> None:
    options[options.index(changed[0]) + 1] = changed[1]
    assert main([*options, "--once"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize("device", ["../up", "", "a b", "x" * 65])
def test_a_device_id_that_is_no_name_is_refused(options: list[str], device: str) -> None:
    options[options.index("--device") + 1] = device
    with pytest.raises(SystemExit) as ended:
        main([*options, "--once"])
    assert ended.value.code == 2


def start(options: list[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "fededge.device.agent", *options, "--interval", "0.05"]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "did not happen within a minute"
        time.sleep(0.02)


def test_a_killed_command_goes_on_where_it_was(fleet: Any, options: list[str]) -> None:
    fleet.publish(1)
    first = start(options)
    try:
        until(lambda: [r.version for r in collect(fleet.root, "tiny")] == [1])
        fleet.publish(2, "second")
    finally:
        first.kill()
        first.wait()
    assert main([*options, "--once"]) == 0
    assert collect(fleet.root, "tiny")[0].version == 2


def test_a_terminated_command_ends_cleanly(fleet: Any, options: list[str]) -> None:
    fleet.publish(1)
    process = start(options)
    try:
        until(lambda: bool(collect(fleet.root, "tiny")))
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_an_owner_that_is_gone_already_ends_the_agent(options: list[str]) -> None:
    process = start([*options, "--owner", "1"])
    try:
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


HEAVY = {"tensorflow", "tensorflow_federated", "kfp", "mlflow", "typer", "rich", "seldon_core"}
LATER = {"httpx", "numpy", "ai_edge_litert", "starlette", "uvicorn"}
"""What an agent loads once it fetches, tries or serves."""


@pytest.mark.parametrize(("module", "absent"), [("agent", HEAVY), ("site", HEAVY | LATER)])
def test_an_agent_starts_without_what_it_does_not_need_yet(module: str, absent: set[str]) -> None:
    code = f"import fededge.device.{module}, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    names = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert not names & absent


def test_an_installed_release_is_proven_again_by_signature(fleet: Any, device: Device, agent: Agent) -> None:
    name = device.installation.names()[0]
    stranger = SigningKey(Ed25519PrivateKey.generate())
    with closing(device.installation):
        device.installation._trusted = stranger.public
        with pytest.raises(IntegrityError):
            device.installation.open(name)


def test_a_genuine_release_in_anothers_place_on_disk_is_not_run(device: Device, agent: Agent) -> None:
    name = device.installation.names()[0]
    moved = "7-" + "0" * 16
    (device.folder / "releases" / name).rename(device.folder / "releases" / moved)
    (device.folder / "running.json").write_text(json.dumps({"current": moved, "previous": None}))
    agent = device.restart()
    assert agent.running is None
    assert agent.poll().version == 1
    assert device.installed() == [name]
