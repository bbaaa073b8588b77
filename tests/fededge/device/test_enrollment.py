"""Enrollment: a key that never leaves, one answer to one token, and a command that may be repeated."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fededge.device import enrollment
from fededge.device.addresses import Address
from fededge.device.enrollment import enroll
from fededge.device.identity import KEY, Identity, identity_in
from fededge.device.journal import verify
from fededge.errors import GatewayError, SiteError, StorageError
from fededge.protocol import Hello, Problem
from fededge.signing import SigningKey
from tests.enrolled_site import EnrolledSite, in_loop
from tests.stand_in_gateway import CLIENT, TENANT, TOKEN, Answer, StandInGateway, certificate

pytestmark = pytest.mark.environment("edge")


async def enrolled(folder: Path, gateway: StandInGateway, **options: Any) -> Identity:
    options = {"token": TOKEN, "gateway": gateway.url} | options
    return await asyncio.to_thread(lambda: enroll(folder, **options))


def test_a_client_enrolls_with_a_key_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            identity = await enrolled(tmp_path / "site", gateway)
            assert (identity.tenant, identity.client, identity.kind) == (TENANT, CLIENT, "site")
            assert identity_in(tmp_path / "site") == identity
            key = tmp_path / "site" / KEY
            assert key.stat().st_mode & 0o777 == 0o600
            assert SigningKey.load(key).public.raw == gateway.keys[CLIENT]
            assert identity.key == SigningKey.load(key).public.id
            journal = (tmp_path / "site" / "journal.jsonl").read_text()
            assert TOKEN not in journal
            assert verify(tmp_path / "site" / "journal.jsonl").lines == 1

    in_loop(scenario)


def test_an_enrollment_that_was_interrupted_goes_on_with_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.http = lambda method, path, headers, body: Answer(200, b"x" * 100, cut=0)
            with pytest.raises(GatewayError, match="cannot be reached"):
                await enrolled(folder, gateway)
            key = (folder / KEY).read_bytes()
            gateway.http = lambda method, path, headers, body: None
            with monkeypatch.context() as patch:
                patch.setattr(Identity, "write", failing)
                with pytest.raises(StorageError):
                    await enrolled(folder, gateway)
            assert not (folder / "identity.json").exists()
            await enrolled(folder, gateway)
            assert (folder / KEY).read_bytes() == key
            gateway.http = lambda method, path, headers, body: Answer(500)
            assert (await enrolled(folder, gateway, token="another-token-altogether")).client == CLIENT

    in_loop(scenario)


def test_a_busy_gateway_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrollment, "AGAIN", 0.001)
    refusal = Problem(reason="TOO_FREQUENT", message="try to enroll less often").model_dump_json().encode()

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            busy = [Answer(429, refusal), Answer(503, refusal)]
            gateway.http = lambda method, path, headers, body: busy.pop() if busy else None
            assert (await enrolled(tmp_path, gateway)).client == CLIENT
            assert not busy
            monkeypatch.setattr(enrollment, "PATIENCE", -1.0)
            gateway.http = lambda method, path, headers, body: Answer(429, refusal)
            with pytest.raises(GatewayError, match=r"enroll less often\. Try again later") as refused:
                await enrolled(tmp_path / "second", gateway)
            assert refused.value.status == 429

    in_loop(scenario)


def failing(self: Any, url: Any) -> None:
    raise StorageError("the disk is full")


def test_a_used_token_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            await enrolled(tmp_path / "first", gateway)
            with pytest.raises(GatewayError, match=r"was used already.*new token") as refused:
                await enrolled(tmp_path / "second", gateway)
            assert (refused.value.reason, refused.value.status) == ("FORBIDDEN", 403)
            with pytest.raises(SiteError, match="holds no enrolled client"):
                identity_in(tmp_path / "second")

    in_loop(scenario)


def test_a_folder_belongs_to_one_gateway(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, StandInGateway() as other:
            await enrolled(tmp_path, gateway)
            with pytest.raises(SiteError, match="name another folder"):
                await enrolled(tmp_path, other)

    in_loop(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(201, b"{}"),
        Answer(201, b"<html>"),
        Answer(404, b"no such page"),
        Answer(302, headers={"Location": "http://127.0.0.1:1/"}),
        Answer(201, b"x" * (1 << 17)),
        Answer(201, json.dumps({"tenant": "../..", "client": "c", "kind": "site"}).encode()),
        Answer(201, b"{}", {"Content-Encoding": "gzip"}),
    ],
)
def test_what_is_no_gateway_is_told_from_one(tmp_path: Path, answer: Answer) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.http = lambda method, path, headers, body: answer
            with pytest.raises(GatewayError):
                await enrolled(tmp_path, gateway)
            assert not (tmp_path / "identity.json").exists()

    in_loop(scenario)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway",
        "ftp://gateway",
        "http://gateway.example.com",
        "https://",
        "https://user:word@gateway",
        "https://g?a=1",
    ],
)
def test_secrets_go_to_no_odd_address(url: str) -> None:
    with pytest.raises(SiteError):
        Address.of(url)


def test_plain_http_goes_to_this_machine_or_where_it_is_allowed() -> None:
    for url in ("http://localhost:1/", "http://127.0.0.1", "http://[::1]:8470"):
        assert Address.of(url).url == url.rstrip("/")
    assert (
        Address.of("http://gateway.example.com", plain=True).socket == "ws://gateway.example.com/v1/connect"
    )


def test_tls_is_proven_by_the_given_authority_for_both_http_and_the_socket(tmp_path: Path) -> None:
    site = EnrolledSite(tmp_path)

    async def scenario() -> None:
        async with StandInGateway(certificate(tmp_path)) as gateway:
            with pytest.raises(GatewayError, match=r"CERTIFICATE_VERIFY_FAILED|certificate"):
                await enrolled(tmp_path / "other", gateway)
            assert gateway.keys == {}
            await site.enroll(gateway, authorities=tmp_path / "ca.pem")
            async with site.running(gateway):
                await gateway.hears(Hello)

    in_loop(scenario)


def test_a_ca_file_that_is_none_is_told(tmp_path: Path) -> None:
    for file in (tmp_path / "missing.pem", tmp_path / "odd.pem"):
        (tmp_path / "odd.pem").write_text("no certificate")
        with pytest.raises(SiteError, match="cannot use the CA file"):
            enroll(tmp_path, "https://localhost:1", TOKEN, authorities=file)
