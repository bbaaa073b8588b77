"""Releases whose files lie in S3: a device fetches them by presigned HTTPS URLs, and knows nothing of S3.

Moto's server stands for the service; it checks neither rights nor times, so the proxy before it, which speaks TLS,
refuses what has expired. It is skipped where `moto_server` is not on PATH: pip install 'moto[server]'.
"""

import http.client
import importlib.util
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from fededge import storage
from fededge.host.layout import interpreter
from fededge.ports import free_port
from fededge.protocol import Object, Offer, Releases
from tests.enrolled_site import in_loop
from tests.following_device import FIRST, SECOND, Device, failed, runs, signed, told
from tests.stand_in_gateway import StandInGateway, certificate

pytestmark = pytest.mark.environment("edge")

AHEAD = timedelta(minutes=1)
"""Of the bucket's clock: what is good for a second has expired."""
SIGN = """
import json, sys
import boto3
from botocore.client import Config
given = json.load(sys.stdin)
keys = {"aws_access_key_id": "key", "aws_secret_access_key": "word", "region_name": "us-east-1"}
inside = boto3.client("s3", endpoint_url=given["inside"], **keys)
outside = boto3.client("s3", endpoint_url=given["outside"], config=Config(signature_version="s3v4"), **keys)
inside.create_bucket(Bucket="fleet")
for name, content in given["files"].items():
    inside.put_object(Bucket="fleet", Key=name, Body=bytes.fromhex(content))
print(json.dumps({
    f"{name} {seconds}": outside.generate_presigned_url(
        "get_object", Params={"Bucket": "fleet", "Key": name}, ExpiresIn=seconds
    )
    for name in given["files"]
    for seconds in (1, 3600)
}))
"""
"""Puts files into the bucket and signs URLs of them: done where there is an S3 library, as a gateway does."""


@contextmanager
def moto(folder: Path) -> Iterator[int]:
    """The port of a service without buckets."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("moto_server is not on PATH")
    port = free_port()
    with (folder / "moto.log").open("w") as log:
        server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
        try:
            while server.poll() is None:
                with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield port
        finally:
            server.kill()
            server.wait()


@contextmanager
def proxied(port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """The port at which the service on `port` is reached by TLS, by URLs that have not expired."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            signed = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            at = datetime.strptime(signed["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            if at + timedelta(seconds=int(signed["X-Amz-Expires"])) < datetime.now(UTC) + AHEAD:
                return self._answer(403, b"<Error><Code>AccessDenied</Code></Error>", {})
            service = http.client.HTTPConnection("127.0.0.1", port)
            service.request("GET", self.path, headers=dict(self.headers))
            found = service.getresponse()
            return self._answer(found.status, found.read(), dict(found.getheaders()))

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name in headers.keys() & {"Content-Range", "Content-Type", "ETag"}:
                self.send_header(name, headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


Url = Callable[[str, int], str]


@contextmanager
def bucket(folder: Path, tls: ssl.SSLContext, files: dict[str, bytes]) -> Iterator[tuple[int, Url]]:
    """A bucket with `files`: the port at which it is reached, and URLs by name and by the seconds they are good for."""
    with moto(folder) as inside, proxied(inside, tls) as outside:
        given = {
            "inside": f"http://127.0.0.1:{inside}",
            "outside": f"https://localhost:{outside}",
            "files": {name: content.hex() for name, content in files.items()},
        }
        signing = [str(interpreter("platform")), "-c", SIGN]
        told = subprocess.run(signing, input=json.dumps(given), capture_output=True, text=True, check=True)
        urls: dict[str, str] = json.loads(told.stdout)
        yield outside, lambda name, seconds: urls[f"{name} {seconds}"]


@pytest.mark.slow
def test_a_release_in_a_bucket_is_followed_by_presigned_urls_alone(tmp_path: Path) -> None:
    assert not any(map(importlib.util.find_spec, ("boto3", "botocore", "s3fs")))
    tls = certificate(tmp_path)
    device = Device(tmp_path)
    versions = {"one": FIRST, "wrong": SECOND, "long": SECOND, "two": SECOND}
    envelopes = {name: signed(number, model) for number, (name, model) in enumerate(versions.items(), 1)}
    models = {"first": FIRST, "second": SECOND, "wrong model": SECOND[::-1], "long model": SECOND + b"more"}

    async def scenario(port: int, url: Url) -> None:
        async with StandInGateway(tls) as gateway:

            async def offer(manifest: tuple[str, int], model: bytes, lies_at: tuple[str, int]) -> None:
                envelope = envelopes[manifest[0]]
                gateway.offers["tiny"] = Offer(
                    task="tiny",
                    manifest=Object(digest=storage.digest(envelope), bytes=len(envelope), url=url(*manifest)),
                    model=Object(digest=storage.digest(model), bytes=len(model), url=url(*lies_at)),
                )
                if gateway.sessions:
                    await gateway.tell(Releases(offers=list(gateway.offers.values())))

            await device.enroll(gateway, authorities=tmp_path / "ca.pem")
            await offer(("one", 3600), FIRST, ("first", 3600))
            async with device.running(gateway):
                await told(gateway, failed("nor among the policy's hosts"))
                policy = yaml.safe_load(device.policy_file.read_text())
                policy["hosts"] = [f"localhost:{port}"]
                device.policy_file.write_text(yaml.safe_dump(policy))
            async with device.running(gateway):
                await told(gateway, runs(1))
                for body, reason in (("wrong", "was promised"), ("long", "sends more than")):
                    await offer((body, 3600), SECOND, (f"{body} model", 3600))
                    assert (await told(gateway, failed(reason))).version == 1
                await offer(("two", 1), SECOND, ("second", 3600))
                await told(gateway, failed("status 403"))
                await offer(("two", 3600), SECOND, ("second", 1))
                await gateway.until(lambda: (device.releases / "incoming").exists() or None)
                await offer(("two", 3600), SECOND, ("second", 3600))
                assert (await told(gateway, runs(4))).digest == storage.digest(SECOND)

    with bucket(tmp_path, tls, {**envelopes, **models}) as (port, url):
        in_loop(lambda: scenario(port, url))
