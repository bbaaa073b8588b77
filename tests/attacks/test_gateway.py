"""Whoever reaches a gateway and means harm is refused and sees nothing of others, who are served meanwhile."""

import base64
import gzip
import itertools
import json
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from fededge import storage
from fededge.errors import GatewayError
from fededge.fleet.gateway.grants import Grant, Keys
from fededge.fleet.registry import audit
from fededge.fleet.registry.database import Registry
from fededge.protocol import LARGEST_MESSAGE, connection_bytes
from tests.gateway_client import Client, Operator
from tests.gateway_process import Gateway, token

NUMBERS = itertools.count()
UPDATE = storage.digest(b"update")
DEPTH = 100_000
MORE = 100e6
"""Bytes by which a gateway may grow while it is attacked."""
TRAVERSALS = [
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//etc",
    "/etc/passwd",
    "a/../b",
    "a\\..\\b",
    "%00",
    "a%0d%0aSet-Cookie:x",
    "~root",
    "*",
    "𝕊",
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway.start(
        tmp_path_factory.mktemp("attacked"),
        head_seconds=2.0,
        body_seconds=2.0,
        hello_seconds=2.0,
        stall_seconds=2.0,
    ) as started:
        yield started
        assert started.process.poll() is None
        assert not started.events("a loop ended")
        assert not [line for line in started.log if "Traceback" in json.dumps(line)]


@pytest.fixture(scope="module")
def registry(gateway: Gateway) -> Iterator[Registry]:
    opened = Registry.open(f"sqlite:///{gateway.folder}/registry.db")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def admin(gateway: Gateway, registry: Registry) -> Iterator[Operator]:
    operator = Operator(gateway.url, token(registry))
    yield operator
    operator.close()


@pytest.fixture(scope="module")
def other(gateway: Gateway, registry: Registry) -> Iterator[Operator]:
    """An administrator of another tenant."""
    operator = Operator(gateway.url, token(registry, tenant="enemy"))
    yield operator
    operator.close()


@pytest.fixture
def victim(admin: Operator) -> Iterator[Client]:
    client = admin.enroll(f"victim-{next(NUMBERS)}")
    yield client
    client.close()


@pytest.fixture
def enemy(admin: Operator) -> Iterator[Client]:
    """An enrolled client of the same tenant."""
    client = admin.enroll(f"enemy-{next(NUMBERS)}")
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _still_serves(gateway: Gateway, admin: Operator) -> Iterator[None]:
    """After each attack others are served, and the gateway did not grow."""
    before = resident(gateway)
    yield
    assert admin("GET", "/v1/caller")["tenant"] == "default"
    client = admin.enroll(f"bystander-{next(NUMBERS)}").join()
    assert client.ask({"type": "heartbeat"}).type == "heartbeat"
    client.close()
    assert resident(gateway) - before < MORE


def resident(gateway: Gateway) -> float:
    """Bytes of the gateway's memory."""
    text = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return 1000 * float(text.partition("VmRSS:")[2].split()[0])


def raw(gateway: Gateway) -> socket.socket:
    """A bare connection."""
    parts = urlsplit(gateway.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def everything(connection: socket.socket) -> bytes:
    """All that comes until the gateway ends the connection."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while block := connection.recv(1 << 16):
            found += block
    return bytes(found)


def open_round(admin: Operator, clients: list[Client], **changes: Any) -> list[Any]:
    """A round of these connected clients; their assignments."""
    admin.round(f"round-{next(NUMBERS)}", [client.client for client in clients], **changes)
    return [client.hear() for client in clients]


class TestIdentity:
    """Who one is not."""

    def test_nobody_gets_in_without_a_credential(self, gateway: Gateway) -> None:
        stranger = Operator(gateway.url, None)
        for method, path in (("GET", "/v1/clients"), ("PUT", "/v1/rounds/r"), ("POST", "/v1/blobs")):
            assert stranger.refused(method, path, {}) == (401, "UNAUTHORIZED")
        stranger.close()
        client = Client(gateway.url, "victim")
        assert client.ask(client.hello(client.open())).reason == "REVOKED"

    def test_a_name_is_worth_nothing_with_another_key(self, victim: Client, gateway: Gateway) -> None:
        thief = Client(gateway.url, victim.client)
        assert thief.ask(thief.hello(thief.open())).reason == "REVOKED"

    def test_a_proof_that_was_overheard_is_worth_nothing_later(self, victim: Client) -> None:
        overheard = victim.hello(victim.open())
        assert victim.ask(overheard).type == "welcome"
        victim.close()
        victim.open()
        assert victim.ask(overheard).reason == "REVOKED"

    def test_a_proof_for_another_gateway_is_worth_nothing_here(self, victim: Client) -> None:
        challenge = victim.open()
        nonce = base64.b64decode(challenge.nonce)
        told = connection_bytes(nonce, "gateway-of-the-enemy", victim.tenant, victim.client)
        signature = base64.b64encode(victim.key.sign(told)).decode()
        assert victim.ask(victim.hello(challenge, signature=signature)).reason == "REVOKED"

    def test_an_enrollment_token_makes_one_client_however_many_try(
        self, admin: Operator, gateway: Gateway
    ) -> None:
        made = admin("POST", "/v1/enrollments", {"client": f"raced-{next(NUMBERS)}"})["items"][0]
        bodies = [Client(gateway.url, made["client"]).enrollment(made["token"]) for _ in range(12)]
        with ThreadPoolExecutor(12) as pool:
            answers = list(
                pool.map(
                    lambda body: httpx.post(f"{gateway.url}/v1/enroll", json=body, trust_env=False), bodies
                )
            )
        assert sorted(answer.status_code for answer in answers) == [201] + [403] * 11

    def test_an_enrollment_needs_the_key_that_it_names(self, admin: Operator, gateway: Gateway) -> None:
        made = admin("POST", "/v1/enrollments", {})["items"][0]
        mine, theirs = (Client(gateway.url, made["client"]) for _ in range(2))
        mixed = mine.enrollment(made["token"]) | {
            "public_key": theirs.enrollment(made["token"])["public_key"]
        }
        assert admin.refused("POST", "/v1/enroll", mixed) == (403, "PROOF")

    def test_tokens_of_enrollment_cannot_be_guessed_for_long(self, tmp_path: Path) -> None:
        with Gateway.start(tmp_path, enrolls={"per_second": 0.001, "burst": 3}) as gateway:
            body = Client(gateway.url, "x").enrollment("guess" * 10)
            answers = [httpx.post(f"{gateway.url}/v1/enroll", json=body, trust_env=False) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [403] * 3 + [429] * 2
            assert int(answers[-1].headers["retry-after"]) > 100

    def test_a_revoked_client_loses_its_connection_and_its_work(self, admin: Operator, enemy: Client) -> None:
        enemy.join()
        (assignment,) = open_round(admin, [enemy])
        admin("POST", f"/v1/clients/{enemy.client}/revoke")
        assert enemy.ended() == 1008
        assert enemy.ask(enemy.hello(enemy.open(), working=[assignment.id])).reason == "REVOKED"

    def test_a_token_does_no_more_than_its_scope(self, gateway: Gateway, registry: Registry) -> None:
        reader = Operator(gateway.url, token(registry, "reader"))
        body = {"name": "mine", "scope": "admin"}
        assert reader.refused("POST", "/v1/tokens", body) == (403, "FORBIDDEN")
        assert reader.refused("POST", "/v1/enrollments", {}) == (403, "FORBIDDEN")
        reader.close()

    def test_a_page_of_another_site_cannot_connect(self, victim: Client) -> None:
        for origin in ("https://evil.example", "null", f"{victim.url}.evil.example", "http://127.0.0.1:1"):
            with pytest.raises(InvalidStatus) as refused:
                victim.open(origin=origin)
            assert refused.value.response.status_code == 403
        assert victim.open(origin=victim.url)


class TestOthers:
    """What belongs to somebody else."""

    def test_another_clients_assignment_is_not_ones_own(
        self, admin: Operator, victim: Client, enemy: Client
    ) -> None:
        victim.join()
        enemy.join()
        (theirs,) = open_round(admin, [victim])
        told = {"assignment": theirs.id}
        assert enemy.ask({"type": "accept", **told}).outcome == "refused"
        assert enemy.ask({"type": "decline", "reason": "", **told}).outcome == "refused"
        assert enemy.ask({"type": "upload", "digest": UPDATE, "bytes": 6, **told}).outcome == "refused"
        assert enemy.ask({"type": "report", "failure": "x", **told}).outcome == "refused"
        assert victim.ask({"type": "accept", **told}).outcome == "kept"

    def test_another_clients_update_cannot_be_claimed_or_spoiled(
        self, admin: Operator, victim: Client, enemy: Client
    ) -> None:
        victim.join()
        enemy.join()
        theirs, mine = open_round(admin, [victim, enemy])
        upload = {"type": "upload", "digest": UPDATE, "bytes": 6}
        place = victim.ask({**upload, "assignment": theirs.id})
        spoiled = enemy.ask({**upload, "assignment": mine.id})
        assert admin.http.put(spoiled.url, content=b"POISON").status_code == 422
        assert admin.http.put(place.url, content=b"update").status_code == 201
        claim = {"type": "report", "update": UPDATE, "assignment": mine.id}
        assert enemy.ask(claim).outcome == "refused"

    def test_a_report_counts_in_no_other_round(self, admin: Operator, other: Operator, enemy: Client) -> None:
        enemy.join()
        first, second = open_round(admin, [enemy])[0], open_round(admin, [enemy])[0]
        place = enemy.ask({"type": "upload", "assignment": first.id, "digest": UPDATE, "bytes": 6})
        assert admin.http.put(place.url, content=b"update").status_code == 201
        report = {"type": "report", "update": UPDATE, "assignment": first.id}
        assert enemy.ask(report).outcome == "kept"
        assert enemy.ask({**report, "assignment": "0" * 32}).outcome == "refused"
        reports = [each["reported"] for each in admin("GET", "/v1/rounds", params={"limit": 1000})["items"]]
        assert sum(reports) >= 1
        queue = admin("GET", "/v1/rounds", params={"limit": 1000})["items"]
        waiting = [each for each in queue if enemy.client in each["cohort"] and not each["reported"]]
        assert len(waiting) == 1
        assert second.id != first.id

    def test_another_tenants_client_does_nothing_here(
        self, admin: Operator, other: Operator, victim: Client, gateway: Gateway
    ) -> None:
        victim.join()
        (theirs,) = open_round(admin, [victim])
        same_name = other.enroll(victim.client).join()
        assert same_name.ask({"type": "accept", "assignment": theirs.id}).outcome == "refused"
        crossed = Client(gateway.url, victim.client, tenant="default")
        crossed.key = same_name.key
        assert crossed.ask(crossed.hello(crossed.open())).reason == "REVOKED"
        assert victim.ask({"type": "heartbeat"}).type == "heartbeat"
        same_name.close()

    def test_another_tenants_bytes_are_not_there(self, admin: Operator, other: Operator) -> None:
        digest = admin.store(b"a secret plan")
        assert other("POST", "/v1/blobs", {"digest": digest, "bytes": 13})["url"]
        client = other.enroll(f"spy-{next(NUMBERS)}")
        body = {
            "task": "t",
            "kind": "train",
            "number": 0,
            "dataset": "d",
            "order": "o",
            "plan": digest,
            "weights": digest,
            "cohort": [client.client],
            "seconds": 9.0,
        }
        assert other.refused("PUT", "/v1/rounds/spy", body) == (409, "NO_BLOB")


class TestNames:
    """Names that mean something else to a shell, a path, SQL or a log."""

    @pytest.mark.parametrize("name", TRAVERSALS)
    def test_no_path_leads_out_of_the_store(self, admin: Operator, gateway: Gateway, name: str) -> None:
        for path in (
            "/v1/objects/",
            "/v1/uploads/",
            "/v1/clients/",
            "/v1/rounds/",
            "/v1/triggers/",
            "/v1/tenants/",
        ):
            answer = admin.http.get(path + name)
            assert answer.status_code in (400, 403, 404, 405), answer.text
            assert "root:" not in answer.text
            with raw(gateway) as connection:
                head = f"GET {path}{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                connection.sendall(head.encode())
                assert everything(connection).split()[1] in (b"400", b"401", b"403", b"404", b"405")

    def test_even_a_signed_grant_names_no_path(self) -> None:
        keys = Keys(bytes(32))
        for tenant, digest, owner in (
            ("../x", UPDATE, None),
            ("default", "sha256:../../x", None),
            ("default", UPDATE, "../x"),
            ("default", UPDATE, ""),
        ):
            with pytest.raises(GatewayError):
                keys.opened(keys.sign(Grant("GET", tenant, digest, 0, 1e12, owner)), "GET", 0.0)

    @pytest.mark.parametrize("name", [*TRAVERSALS, "x'; DROP TABLE clients; --", "a\nb", "x" * 100, ""])
    def test_a_name_that_is_none_is_refused_everywhere(
        self, admin: Operator, enemy: Client, name: str
    ) -> None:
        assert enemy.ask(enemy.hello(enemy.open(), client=name)).reason == "MALFORMED"
        assert enemy.ask(enemy.hello(enemy.open(), tenant=name)).reason == "MALFORMED"
        enemy.join()
        assert enemy.ask({"type": "accept", "assignment": f"{name}/"}).reason == "MALFORMED"
        assert admin.refused("POST", "/v1/enrollments", {"client": name}) == (400, "MALFORMED")
        assert admin.refused("PUT", "/v1/tenants/x", {"name": name}) == (400, "MALFORMED")

    def test_words_of_a_client_reach_database_and_log_as_words(
        self, admin: Operator, enemy: Client, gateway: Gateway, registry: Registry
    ) -> None:
        words = '\'); DROP TABLE clients; --\n{"event": "ready"}\r\n\x1b[2J\u2028${jndi:x}%s'
        told = {"conditions": {"note": words}, "capabilities": {"cpu": words}, "software": words[:64]}
        enemy.join(**told, resume="no-session")
        (assignment,) = open_round(admin, [enemy])
        decline = {"type": "decline", "assignment": assignment.id, "reason": words}
        assert enemy.ask(decline).outcome == "kept"
        shown = admin("GET", f"/v1/clients/{enemy.client}")
        assert "DROP TABLE clients" in shown["conditions"]["note"]
        assert admin("GET", "/v1/clients", params={"after": "' OR 1=1 --"})["items"] is not None
        assert not gateway.events("text")
        assert len(gateway.events("ready")) == 1
        assert audit.verify(registry) is None


class TestSize:
    """Too much of something, or too little for too long."""

    def test_a_message_that_is_too_large_ends_its_connection(self, enemy: Client) -> None:
        enemy.join()
        enemy.say("x" * (LARGEST_MESSAGE + 1))
        assert enemy.ended() == 1009

    def test_a_message_in_endless_fragments_ends_its_connection(self, enemy: Client) -> None:
        enemy.join()
        assert enemy.socket is not None
        enemy.socket.socket.sendall(frame(0x01, b"x" * 100))
        with pytest.raises(OSError):
            enemy.socket.socket.sendall(frame(0x00, b"x" * 30_000) * 1000)
        assert enemy.ended() in (1009, 1006)

    @pytest.mark.parametrize("announced", [True, False])
    def test_a_body_that_is_too_large_is_refused(self, admin: Operator, announced: bool) -> None:
        block = b" " * (1 << 16)
        blocks = itertools.repeat(block, 200)
        content: Any = block * 200 if announced else blocks
        try:
            answer = admin.http.post(
                "/v1/blobs", content=content, headers={"content-type": "application/json"}
            )
        except httpx.WriteError:
            return  # the gateway ended the connection before all was sent
        assert (answer.status_code, answer.json()["reason"]) == (413, "TOO_LARGE")

    def test_an_upload_beyond_what_was_announced_is_refused(self, admin: Operator) -> None:
        data = f"{next(NUMBERS)}".encode()
        offer = {"digest": storage.digest(data), "bytes": len(data)}
        place = admin("POST", "/v1/blobs", offer)["url"]
        answer = admin.http.put(place, content=itertools.repeat(b"x" * (1 << 16), 50))
        assert answer.status_code == 413

    def test_an_offer_beyond_all_sizes_is_refused(self, admin: Operator) -> None:
        for size in (1 << 41, -1, 10**30, 1.5, "1"):
            assert admin.refused("POST", "/v1/blobs", {"digest": UPDATE, "bytes": size}) == (
                400,
                "MALFORMED",
            )

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
    def test_a_compressed_body_is_not_unpacked(self, admin: Operator, encoding: str) -> None:
        bomb = gzip.compress(bytes(50_000_000))
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        answer = admin.http.post("/v1/blobs", content=bomb, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")

    def test_a_compressed_message_is_not_unpacked(self, enemy: Client) -> None:
        enemy.open(compression="deflate")
        assert enemy.socket is not None
        assert not enemy.socket.protocol.extensions
        enemy.socket.socket.sendall(frame(0x41, b"\x00" * 100))
        assert enemy.ended() in (1002, 1006)

    @pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
    def test_json_without_a_bottom_is_refused(self, admin: Operator, enemy: Client, opening: str) -> None:
        deep = opening * DEPTH
        for text in (deep, f'{{"digest": {deep}', f'{{"unknown": {deep}'):
            headers = {"content-type": "application/json"}
            answer = admin.http.post("/v1/blobs", content=text.encode(), headers=headers)
            assert (answer.status_code, answer.json()["reason"]) == (400, "MALFORMED")
        enemy.join()
        for start in ('{"type": "report", "assignment": "a", "ranges": {"a": ', '{"type": "x", "y": '):
            text = start + opening * ((LARGEST_MESSAGE - 200) // len(opening))
            assert enemy.ask(text).reason == "MALFORMED"

    @pytest.mark.parametrize("number", ["1e999999", "NaN", "Infinity", "-1", "9" * 5000, "0.1e-99999"])
    def test_numbers_that_are_none_are_refused(self, enemy: Client, number: str) -> None:
        enemy.join()
        assert (
            enemy.ask(
                f'{{"type": "upload", "assignment": "a", "digest": "{UPDATE}", "bytes": {number}}}'
            ).type
            == "refused"
        )

    def test_pings_without_end_are_not_gathered(self, gateway: Gateway) -> None:
        """Whoever does not read the answers is not answered for ever."""
        with raw(gateway) as connection:
            upgrade = (
                "GET /v1/connect HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
                "sec-websocket-protocol: fededge\r\n\r\n"
            )
            connection.sendall(upgrade.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 101")
            connection.settimeout(10)
            with pytest.raises(OSError):
                connection.sendall(frame(0x09, b"x" * 125) * 1_000_000)


class TestSlow:
    """Connections that are held as long as can be: they end, and meanwhile others are served."""

    def test_heads_that_never_end_are_cut_off(self, gateway: Gateway, victim: Client) -> None:
        connections = [raw(gateway) for _ in range(300)]
        for number, connection in enumerate(connections):
            connection.sendall(b"GET /v1/clients HTTP/1.1\r\nhost: x\r\n" if number % 3 else b"")
        victim.join()
        assert victim.ask({"type": "heartbeat"}).type == "heartbeat"
        for connection in connections:
            assert everything(connection) == b""
            connection.close()

    def test_dribbling_does_not_help(self, gateway: Gateway) -> None:
        with raw(gateway) as connection:
            over = threading.Event()

            def dribble() -> None:
                while not over.wait(0.2):
                    try:
                        connection.sendall(b"x-slow: 1\r\n")
                    except OSError:
                        return

            connection.sendall(b"GET / HTTP/1.1\r\n")
            thread = threading.Thread(target=dribble)
            thread.start()
            assert everything(connection) == b""
            over.set()
            thread.join()

    def test_a_head_without_end_is_refused_by_its_size(self, gateway: Gateway) -> None:
        with raw(gateway) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            try:
                for _ in range(1000):
                    connection.sendall(b"x-more: " + b"y" * 1000 + b"\r\n")
            except OSError:
                pass
            answer = everything(connection)
        assert answer == b"" or answer.split()[1] == b"431"

    def test_a_body_that_never_ends_is_cut_off(self, admin: Operator, gateway: Gateway) -> None:
        with raw(gateway) as connection:
            secret = admin.http.headers["authorization"]
            head = (
                f"POST /v1/blobs HTTP/1.1\r\nhost: x\r\nauthorization: {secret}\r\ncontent-length: 1000\r\n"
                "connection: close\r\n\r\n{"
            )
            connection.sendall(head.encode())
            assert b"408" in everything(connection).split(b"\r\n")[0]

    def test_an_upload_that_stops_is_cut_off_and_may_go_on(self, admin: Operator, gateway: Gateway) -> None:
        data = f"{next(NUMBERS):05}".encode() * 100
        place = admin("POST", "/v1/blobs", {"digest": storage.digest(data), "bytes": len(data)})["url"]
        with raw(gateway) as connection:
            path = f"/{place.removeprefix(gateway.url).lstrip('/')}"
            head = (
                f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
            )
            connection.sendall(head.encode() + data[:100])
            assert b"408" in everything(connection).split(b"\r\n")[0]
        assert admin.http.head(place).headers["upload-offset"] == "100"
        rest = {"content-range": f"bytes 100-{len(data) - 1}/{len(data)}"}
        assert admin.http.put(place, content=data[100:], headers=rest).status_code == 201

    def test_a_silent_websocket_is_told_and_closed(self, gateway: Gateway) -> None:
        clients = [Client(gateway.url, "silent") for _ in range(20)]
        for client in clients:
            client.open()
        for client in clients:
            assert client.hear().reason == "TIMEOUT"
            assert client.ended() == 1008

    def test_who_does_not_read_an_object_is_cut_off(self, admin: Operator, gateway: Gateway) -> None:
        data = bytes(30_000_000) + str(next(NUMBERS)).encode()
        digest = admin.store(data)
        client = admin.enroll(f"reader-{next(NUMBERS)}").join()
        (assignment,) = open_round(admin, [client], weights=digest)
        client.close()
        before = len(gateway.events("stalled"))
        with raw(gateway) as connection:
            path = f"/{assignment.weights.url.removeprefix(gateway.url).lstrip('/')}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            while len(gateway.events("stalled")) == before:
                threading.Event().wait(0.1)
            assert len(everything(connection)) < len(data)


class TestFrames:
    """Bytes that are no WebSocket and no HTTP."""

    @pytest.mark.parametrize(
        "data",
        [
            b"\x81\x05hello",  # not masked
            b"\x83\x80\x00\x00\x00\x00",  # no such kind
            b"\x8b\x80\x00\x00\x00\x00",
            b"\xb1\x80\x00\x00\x00\x00",  # bits of extensions that were not agreed
            b"\x80\x80\x00\x00\x00\x00",  # goes on with what did not begin
            b"\x09\x80\x00\x00\x00\x00",  # a ping in pieces
            b"\x89\xfe\x00\x7e" + bytes(4 + 126),  # a ping that is too long
            b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(4),  # 2^64 bytes
            b"\x88\x81" + bytes(4) + b"\x00",  # a close of one byte
            b"\x81\x82" + bytes(4) + b"\xc3\x28",  # not UTF-8
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(100),
        ],
        ids=range(12),
    )
    def test_a_malformed_frame_ends_its_connection(self, enemy: Client, data: bytes) -> None:
        enemy.join()
        assert enemy.socket is not None
        enemy.socket.socket.sendall(data)
        assert enemy.ended() in (1002, 1007, 1009, 1006)

    @pytest.mark.parametrize(
        "head",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET\x00/ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        ],
        ids=range(9),
    )
    def test_a_malformed_request_ends_its_connection(self, gateway: Gateway, head: bytes) -> None:
        with raw(gateway) as connection:
            connection.sendall(head)
            answer = everything(connection)
        assert answer == b"" or answer.split()[1][:1] == b"4"


class TestUrls:
    """URLs of objects that are old or not what they were."""

    def test_a_url_that_was_altered_opens_nothing(self, admin: Operator, victim: Client) -> None:
        victim.join()
        (assignment,) = open_round(admin, [victim])
        url = assignment.plan.url
        grant = url.rpartition("/")[2]
        version, payload, mac = grant.split(".")
        forged = json.loads(base64.urlsafe_b64decode(payload + "=="))
        forged[1] = "enemy"
        other = base64.urlsafe_b64encode(json.dumps(forged).encode()).rstrip(b"=").decode()
        for changed in (
            f"{version}.{other}.{mac}",
            f"00000000.{payload}.{mac}",
            f"{version}.{payload}.{mac[:-2]}",
            f"{version}.{payload}.",
            f"{version}.{payload}",
            "",
        ):
            answer = admin.http.get(url.replace(grant, changed))
            assert answer.status_code in (403, 404)
        assert admin.http.put(url, content=b"plan").status_code == 405
        assert admin.http.put(url.replace("objects", "uploads"), content=b"plan").status_code == 403
        assert admin.http.get(url).content == b"plan"

    def test_a_url_is_good_for_its_time(self, tmp_path: Path) -> None:
        with Gateway.start(tmp_path, url_seconds=0.0) as gateway:
            registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
            admin = Operator(gateway.url, token(registry))
            place = admin("POST", "/v1/blobs", {"digest": UPDATE, "bytes": 6})["url"]
            answer = admin.http.put(place, content=b"update")
            assert (answer.status_code, answer.json()["reason"]) == (403, "EXPIRED")
            admin.close()
            registry.close()

    def test_grants_are_in_no_log(self, admin: Operator, gateway: Gateway) -> None:
        place = admin("POST", "/v1/blobs", {"digest": storage.digest(b"logged"), "bytes": 6})["url"]
        admin.http.put(place, content=b"logged")
        grant = place.rpartition("/")[2]
        secret = admin.http.headers["authorization"].partition(" ")[2]
        told = json.dumps(gateway.log)
        assert "/v1/uploads/{grant}" in told
        assert grant not in told
        assert secret not in told


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame whose mask changes nothing; `first` without the bit that ends a message."""
    end = 0 if first in (0x00, 0x01) else 0x80
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([first | end]) + length + bytes(4) + payload
