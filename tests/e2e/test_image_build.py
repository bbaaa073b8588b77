"""The platform image, really built by podman on a Python 3.11 that is there already, and run."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge import __version__

from .conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BASE = "docker.io/library/python:3.11-slim"
IMAGE = "localhost/fededge-test/platform"
ANYBODY = ("--user", "12345:0", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all")


def podman(*arguments: str) -> str:
    """What podman prints; its own words where it fails."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def base() -> str | None:
    """The base by digest, where podman and the base are here; nothing is pulled."""
    if not shutil.which("podman") or subprocess.run(["podman", "image", "exists", BASE]).returncode:
        return None
    digest = podman("image", "inspect", "--format", "{{.Digest}}", BASE).strip()
    return f"{BASE.rpartition(':')[0]}@{digest}"


def build(source: Path, tag: str) -> str:
    """Build the platform image from a clone or a copy of one, by its own command; the image."""
    command = [sys.executable, "-m", "fededge", "images", "build", "platform", "--engine", "podman"]
    done = subprocess.run(
        [*command, "--base", base() or "", "--tag", tag],
        env=os.environ | {"PYTHONPATH": str(source), "FEDEDGE_REGISTRY": IMAGE.rpartition("/")[0]},
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return f"{IMAGE}:{tag}"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    if base() is None:
        pytest.skip(f"podman is not installed, or has no {BASE}: podman pull {BASE}")
    yield build(ROOT, "first")
    podman("rmi", "--force", f"{IMAGE}:first")


def test_a_change_of_the_code_makes_one_small_layer(image: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", ".venvs", ".fededge"))
    with (tmp_path / "copy" / "fededge" / "settings.py").open("a") as file:
        file.write("CHANGED = True\n")
    changed = build(tmp_path / "copy", "changed")
    try:
        layers = [
            json.loads(podman("image", "inspect", "--format", "{{json .RootFS.Layers}}", one))
            for one in (image, changed)
        ]
        assert layers[0][:-1] == layers[1][:-1]
        assert layers[0][-1] != layers[1][-1]
        sizes = [layer["size"] for layer in json.loads(podman("history", "--format", "json", changed))]
        assert next(filter(None, sizes)) < sum(sizes) / 50
    finally:
        podman("rmi", "--force", changed)


def test_any_user_of_group_0_runs_on_a_read_only_root_without_capabilities(image: str) -> None:
    drawn = (
        "import matplotlib.pyplot as p; p.plot([1]); p.savefig('/tmp/a.png'); import mlflow, kfp, kfp.local"
    )
    podman("run", "--rm", *ANYBODY, image, "python", "-W", "error::UserWarning", "-c", drawn)
    assert __version__ in podman("run", "--rm", *ANYBODY, image, "fededge", "--version")
    podman(
        "run", "--rm", "--user", "12345:0", image, "sh", "-c", 'touch "$HOME/file" && test "$PWD" = "$HOME"'
    )


def test_sigterm_ends_an_idle_agent_as_process_1(image: str, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "key.pem")], check=True
    )
    public = subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "key.pem"), "-pubout"], check=True, capture_output=True
    )
    (tmp_path / "public.pem").write_bytes(public.stdout)
    agent = ("python", "-m", "fededge.device.agent", "digits", "--device", "a", "--class", "camera")
    options = ("--trusted-key", "/public.pem", "--storage", "file:///tmp/store", "--folder", "/tmp/device")
    mount = ("--volume", f"{tmp_path / 'public.pem'}:/public.pem:ro")
    container = podman("run", "--detach", *ANYBODY, *mount, image, *agent, *options).strip()
    try:
        for _ in range(100):
            if podman("logs", container):
                break
            time.sleep(0.2)
        assert podman("inspect", "--format", "{{.State.Status}}", container).strip() == "running"
        asked = time.monotonic()
        podman("kill", "--signal", "TERM", container)
        assert podman("wait", container).strip() == "0"
        assert time.monotonic() - asked < 10  # podman's own part is seconds on a busy machine
    finally:
        podman("rm", "--force", container)


def test_the_list_of_packages_names_those_of_the_lock_with_their_licenses(image: str) -> None:
    listed = json.loads(podman("run", "--rm", image, "cat", "/opt/fededge/sbom.cdx.json"))
    assert listed["bomFormat"] == "CycloneDX"
    versions = {part["name"].lower().replace("_", "-"): part["version"] for part in listed["components"]}
    assert versions["kfp"] == "2.17.0"
    assert versions["mlflow-skinny"] == "3.17.2"
    assert not {"uv", "cyclonedx-bom", "pip"} & set(versions)
    unnamed = {part["name"] for part in listed["components"] if not part.get("licenses")}
    assert unnamed <= {"huey"}, "its wheel names none; its text is MIT's"


@pytest.fixture
def docker_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """podman answering as a Docker engine does. Of a container that is removed while its log is being opened podman 4
    says 500 instead of 404: the components below last a second longer than their first line of log."""
    socket = tmp_path / "podman.sock"
    with subprocess.Popen(["podman", "system", "service", "--time", "0", f"unix://{socket}"]) as service:
        for _ in range(100):
            if socket.exists():
                break
            time.sleep(0.1)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        yield
        service.terminate()


@pytest.mark.usefixtures("docker_host")
def test_kfps_own_docker_runner_runs_components_in_it(image: str, tmp_path: Path) -> None:
    pytest.importorskip("docker")
    from kfp import dsl, local
    from kfp.dsl import Dataset, Input, Output

    @dsl.component(base_image=image, install_kfp_package=False)
    def write(text: str, written: Output[Dataset]) -> None:
        import time

        from fededge import storage

        storage.write(written.path, text.encode())
        time.sleep(1)

    @dsl.component(base_image=image, install_kfp_package=False)
    def count(written: Input[Dataset]) -> int:
        import time

        from fededge import storage

        time.sleep(1)
        return len(storage.read(written.path))

    @dsl.pipeline
    def counted(text: str) -> int:
        made = write(text=text)
        return count(written=made.outputs["written"]).output

    settings: dict[str, Any] = {"user": "0:0"}  # the owner of the folder that kfp mounts
    local.init(runner=local.DockerRunner(**settings), pipeline_root=str(tmp_path / "root"))
    assert counted(text="federated").output == 9
