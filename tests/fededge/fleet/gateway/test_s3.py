"""Objects in S3, which clients reach by presigned URLs; moto's server stands for the service, and checks no rights.

It is skipped where `moto_server` is not on PATH: pip install 'moto[server]'.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import boto3
import httpx
import pytest

from fededge import storage
from fededge.fleet.registry.database import Registry
from fededge.ports import free_port
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "key-of-a-test",
    "AWS_SECRET_ACCESS_KEY": "word-of-a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a service with an empty bucket `fededge`."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("moto_server is not on PATH")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (tmp_path / "moto.log").open("w")
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    for name, value in (VARIABLES | {"AWS_ENDPOINT_URL": url}).items():
        monkeypatch.setenv(name, value)
    try:
        while True:
            with suppress(httpx.TransportError):
                httpx.get(url, trust_env=False)
                break
            time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket="fededge")
        yield url
    finally:
        server.kill()
        server.wait()
        log.close()


def test_a_round_whose_objects_lie_in_a_bucket(store: str, tmp_path: Path) -> None:
    with Gateway.start(tmp_path, storage="s3://fededge/files") as gateway:
        registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
        admin = Operator(gateway.url, token(registry))
        digests = {}
        for name, data in (("plan", b"plan"), ("weights", b"weights")):
            offer = {"digest": storage.digest(data), "bytes": len(data)}
            place = admin("POST", "/v1/blobs", offer)
            assert place["url"].startswith(store)
            assert not place["resumable"]
            assert admin.http.put(place["url"], content=data).status_code == 200
            assert "url" not in admin("POST", "/v1/blobs", offer)
            digests[name] = offer["digest"]
        clients = [admin.enroll(f"site-{number}").join() for number in range(2)]
        admin.round("r", ["site-0", "site-1"], **digests)
        update = storage.digest(b"update")
        for client in clients:
            assignment = client.hear()
            assert assignment.plan.url.startswith(store)
            assert assignment.upload is None
            assert httpx.get(assignment.plan.url, trust_env=False).content == b"plan"
            told = {"assignment": assignment.id}
            report = {"type": "report", "update": update, "seconds": 1.0, "fetched": 11, **told}
            assert client.ask(report).outcome == "refused"
            place = client.ask({"type": "upload", "digest": update, "bytes": 6, **told})
            assert httpx.put(place.url, content=b"update", trust_env=False).status_code == 200
            assert client.ask({"type": "upload", "digest": update, "bytes": 6, **told}).done
            assert client.ask(report).outcome == "kept"
            assert client.ask(report | {"fetched": 10**9}).outcome == "kept"
            client.close()
        status = admin("GET", "/v1/rounds/r")
        assert (status["bytes_up"], status["bytes_down"]) == (12, 22)
        items = admin("GET", "/v1/rounds/r/reports")["items"]
        assert [httpx.get(item["url"], trust_env=False).content for item in items] == [b"update"] * 2
        assert (
            len({item["url"].partition("?")[0] for item in items}) == 2
        )  # each lies under its client's name
        name = update.removeprefix("sha256:")
        kept = {each["Key"] for each in boto3.client("s3").list_objects(Bucket="fededge")["Contents"]}
        assert {key for key in kept if name in key} == {
            f"files/fleet/default/objects/{name[:2]}/{name}.site-{number}" for number in range(2)
        }
        assert admin.refused("GET", "/v1/objects/x") == (403, "FORBIDDEN")
        admin.close()
        registry.close()
