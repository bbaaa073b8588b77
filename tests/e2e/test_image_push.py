"""Pushing images to a registry on this machine, and compiling with the digests that it has them by."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import ROOT, Machine

pytestmark = pytest.mark.slow
NAMES = ("platform", "worker", "serving", "edge")


@dataclass
class Registry:
    """A registry on this machine, and the variables with which engines store and push apart from the user's."""

    host: str
    variables: dict[str, str]

    def digest(self, name: str, tag: str) -> str:
        """The digest of an image, as the registry tells it."""
        source = f"docker://{self.host}/fededge/{name}:{tag}"
        command = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", source]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    missing = [program for program in ("docker-registry", "skopeo") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: apt-get install docker-registry skopeo")
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    (tmp_path / "registry.yaml").write_text(
        json.dumps({"version": "0.1", "storage": storage, "http": {"addr": host}})
    )
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
    places = {name: str(tmp_path / name) for name in ("graphroot", "runroot")}
    lines = ['driver = "vfs"', *(f'{name} = "{place}"' for name, place in places.items())]
    (tmp_path / "storage.conf").write_text("\n".join(["[storage]", *lines]))
    (tmp_path / "containers.conf").write_text(
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    with subprocess.Popen(
        ["docker-registry", "serve", str(tmp_path / "registry.yaml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _await(host, process)
            yield Registry(
                host,
                {
                    "FEDEDGE_REGISTRY": f"{host}/fededge",
                    "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf"),
                    "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
                    "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
                },
            )
        finally:
            process.terminate()


def _await(host: str, process: subprocess.Popen[bytes]) -> None:
    name, _, port = host.partition(":")
    for _ in range(100):
        assert process.poll() is None, "the registry ended"
        try:
            socket.create_connection((name, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the registry does not listen")


def build(engine: str, registry: Registry, name: str, tag: str, folder: Path) -> None:
    """An image that holds nothing but a label, which stands for the real one; a skip where none can be built."""
    if not shutil.which(engine):
        pytest.skip(f"{engine} is not installed")
    (folder / "Dockerfile").write_text(f"FROM scratch\nLABEL name={name}{tag}\n")
    done = subprocess.run(
        [engine, "build", "--tag", f"{registry.host}/fededge/{name}:{tag}", str(folder)],
        env={**os.environ, **registry.variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"{engine} cannot build an empty image on this machine: {done.stderr.strip()[-300:]}")


@pytest.mark.parametrize("engine", ["podman", "buildah"])
def test_a_pipeline_is_compiled_with_the_very_bytes_that_were_pushed(
    engine: str, registry: Registry, machine: Machine, tmp_path: Path
) -> None:
    for name in NAMES:
        build(engine, registry, name, "t1", tmp_path)
    pushed = machine.fededge(
        "images", "push", "--tag", "t1", "--engine", engine, variables=registry.variables
    )
    assert pushed.returncode == 0, pushed.stderr
    digests = {name: registry.digest(name, "t1") for name in NAMES}
    assert len(set(digests.values())) == len(NAMES)
    file = machine.home / "images.json"
    assert f"export FEDEDGE_IMAGES={file}" in pushed.stdout
    expected = {name: f"{registry.host}/fededge/{name}@{digest}" for name, digest in digests.items()}
    assert json.loads(file.read_bytes())["images"] == expected

    pipeline = tmp_path / "pipeline.yaml"
    compiled = machine.fededge(
        "compile",
        ROOT / "examples" / "digits" / "task.yaml",
        "-o",
        pipeline,
        variables={"FEDEDGE_IMAGES": str(file)},
    )
    assert compiled.returncode == 0, compiled.stderr
    named = set(re.findall(rf"{registry.host}/\S+", pipeline.read_text()))
    assert named == {expected[name] for name in ("platform", "worker", "serving")}


def test_a_push_of_one_image_leaves_the_digests_of_the_others(
    registry: Registry, machine: Machine, tmp_path: Path
) -> None:
    for tag, name in (("t1", "platform"), ("t1", "worker"), ("t2", "worker")):
        build("podman", registry, name, tag, tmp_path)
        done = machine.fededge("images", "push", name, "--tag", tag, variables=registry.variables)
        assert done.returncode == 0, done.stderr
    written = json.loads((machine.home / "images.json").read_bytes())["images"]
    assert written == {
        "platform": f"{registry.host}/fededge/platform@{registry.digest('platform', 't1')}",
        "worker": f"{registry.host}/fededge/worker@{registry.digest('worker', 't2')}",
    }
