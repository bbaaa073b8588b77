"""Blobs in S3, Google Cloud Storage and Azure, with no more than the variables that a step on a cluster gets.

Moto's server, gcp-storage-emulator and Azurite stand for the real services: they answer in their protocols, and
check no rights. A store whose emulator is not on PATH is skipped. To have them all:

    pip install 'moto[server]' gcp-storage-emulator; npm install --global azurite
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fededge.ports import free_port

pytestmark = pytest.mark.environment("platform", "worker", "serving")

ROOT = Path(__file__).resolve().parents[2]
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, the same everywhere."""
ROUND = """
import json, sys
import fsspec
from fededge import storage
from fededge.errors import StorageError

root = sys.argv[1]
storage.file_system(root).mkdir(root.split("://")[1].split("/")[0])
told = {"before": storage.exists(f"{root}/a/one"), "none": storage.names(f"{root}/a")}
storage.write(f"{root}/a/one", b"first")
storage.write(f"{root}/a/one", b"second")
storage.write(f"{root}/a/two", bytes(range(256)) * 40_000)
told["read"] = storage.read(f"{root}/a/one").decode()
told["large"] = storage.digest(storage.read(f"{root}/a/two"))
told["expected"] = storage.digest(bytes(range(256)) * 40_000)
told["exists"], told["names"] = storage.exists(f"{root}/a/one"), storage.names(f"{root}/a")
storage.remove(f"{root}/a/one")
storage.remove(f"{root}/a/one")
told["left"] = storage.names(f"{root}/a")
try:
    storage.read(f"{root}/a/one")
except StorageError as error:
    told["gone"] = str(error)
try:
    storage.write(root.replace("fededge", "absent") + "/a", b"x")
except StorageError as error:
    told["absent"] = str(error)
print(json.dumps(told))
"""


@dataclass(frozen=True)
class Store:
    """A service of one kind: its program, and how a step is told of it; {port} and {folder} are filled in."""

    url: str
    program: str
    command: tuple[str, ...]
    variables: dict[str, str]


STORES = {
    "s3": Store(
        "s3://fededge/models",
        "moto_server",
        ("moto_server", "-H", "127.0.0.1", "-p", "{port}"),
        {
            "AWS_ACCESS_KEY_ID": "key-of-a-test",
            "AWS_SECRET_ACCESS_KEY": "word-of-a-test",
            "AWS_SESSION_TOKEN": "token-of-a-test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:{port}",
        },
    ),
    "s3-without-a-key": Store(
        "s3://fededge/models",
        "moto_server",
        ("moto_server", "-H", "127.0.0.1", "-p", "{port}"),
        {  # what EKS puts into a pod whose service account has a role
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/fededge",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:{port}",
        },
    ),
    "gs": Store(
        "gs://fededge/models",
        "gcp-storage-emulator",
        ("gcp-storage-emulator", "start", "--host=127.0.0.1", "--port={port}", "--in-memory"),
        {"FSSPEC_GS": '{{"token": "anon", "project": "test", "endpoint_url": "http://127.0.0.1:{port}"}}'},
    ),
    "abfs": Store(
        "abfs://fededge/models",
        "azurite-blob",
        ("azurite-blob", "--blobPort", "{port}", "--location", "{folder}", "--skipApiVersionCheck"),
        {
            "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
            f"AccountKey={AZURITE_KEY};BlobEndpoint=http://127.0.0.1:{{port}}/devstoreaccount1;"
        },
    ),
}


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A running service, and what a step needs to reach it."""
    wanted = STORES[request.param]
    if shutil.which(wanted.program) is None:
        pytest.skip(f"{wanted.program} is not installed")
    port = str(free_port())
    filled = {"port": port, "folder": str(tmp_path)}
    (tmp_path / "token").write_text("of-the-service-account")
    command = [part.format(**filled) for part in wanted.command]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(int(port), process, tmp_path / "log")
            yield Store(
                wanted.url,
                wanted.program,
                wanted.command,
                {name: value.format(**filled) for name, value in wanted.variables.items()},
            )
        finally:
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens: {log.read_text()}")


def test_blobs_are_kept_with_nothing_but_the_variables_of_a_step(store: Store) -> None:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "AZURE_", "FSSPEC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", ROUND, store.url],
        env={**own, "PYTHONPATH": str(ROOT), **store.variables},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["before"], told["none"]) == (False, [])
    assert told["read"] == "second"
    assert told["large"] == told["expected"]
    assert (told["exists"], told["names"], told["left"]) == (True, ["one", "two"], ["two"])
    assert told["gone"].startswith(f"cannot read {store.url}/a/one")
    assert told["absent"].startswith(f"cannot write {store.url.replace('fededge', 'absent')}/a")
    for secret in ("word-of-a-test", "token-of-a-test", AZURITE_KEY):
        assert secret not in done.stdout + done.stderr
