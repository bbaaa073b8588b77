"""A gateway of an enemy, and whoever stands between: a site does what its policy and the signed order say, or nothing."""

import asyncio
import gzip
import io
import json
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings

from fededge.device import assignments
from fededge.device.addresses import Address
from fededge.device.plans import LIMIT, MOST, Plans
from fededge.errors import IntegrityError, SiteError
from fededge.protocol import (
    LARGEST_MESSAGE,
    Accept,
    Assignment,
    Challenge,
    Decline,
    Heartbeat,
    Hello,
    ReportMessage,
    UploadPlace,
    UploadRequest,
    Welcome,
)
from fededge.signing import SigningKey
from fededge.storage import digest
from tests.attacks.hostile import PIECES, mutants, read_or_refused
from tests.enrolled_site import EnrolledSite, in_loop
from tests.stand_in_gateway import Answer, StandInGateway, plan_zip

pytestmark = pytest.mark.environment("edge")

OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\1" * 32))


@pytest.fixture
def site(tmp_path: Path) -> EnrolledSite:
    return EnrolledSite(tmp_path)


def declined(site: EnrolledSite, *hostile: Assignment, **order: Any) -> str:
    """Why the site declines an order; nothing else leaves it."""

    async def scenario() -> str:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(hostile[0] if hostile else gateway.order(**order))
            reason = (await gateway.hears(Decline)).reason
            assert {message.type for message in gateway.said} == {"hello", "decline"}
            return reason

    return in_loop(scenario)


def failure(site: EnrolledSite, gateway: StandInGateway, **order: Any) -> str:
    """The failure that the site reports of an order at a gateway that was told what to do; no update leaves."""

    async def scenario() -> str:
        async with gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(**order))
            report = await gateway.hears(ReportMessage)
            assert report.update is None
            assert gateway.uploads == {}
            return str(report.failure)

    return in_loop(scenario)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"key": OTHER}, "which no rule of this site's policy trusts"),
        ({"tenant": "another"}, "for the tenant another"),
        ({"dataset": "pulse"}, "no rule of this site's policy"),
        ({"task": "other"}, "no rule of this site's policy"),
        ({"owner": "mallory"}, "no rule of this site's policy"),
        ({"cohort": 2, "min_clients": 2}, "min_clients"),
        ({"cohort": 100, "min_clients": 1}, "min_clients"),
        ({"code": True}, "code"),
        ({"framework": "pickle"}, "not installed"),
        ({"kind": "evaluate"}, "min_examples"),
    ],
)
def test_what_the_policy_does_not_allow_is_declined(
    site: EnrolledSite, order: dict[str, Any], reason: str
) -> None:
    assert reason in declined(site, **order)


def changed(assignment: Assignment, field: str, value: Any) -> Assignment:
    """An assignment whose order was changed after it was signed."""
    envelope = json.loads(assignment.order)
    payload = json.loads(envelope["payload"]) | {field: value}
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return assignment.model_copy(update={"order": json.dumps(envelope | {"payload": text})})


@pytest.mark.parametrize(
    ("field", "value"), [("cohort", 1000), ("round_id", "r-9"), ("code", True), ("issued", 9e9)]
)
def test_an_order_that_was_changed_is_declined(site: EnrolledSite, field: str, value: Any) -> None:
    gateway = StandInGateway()
    gateway.url = "http://localhost:1"
    assert "does not fit the payload" in declined(site, changed(gateway.order(), field, value))


@pytest.mark.parametrize("part", ["plan", "weights"])
def test_other_bytes_than_were_signed_for_are_declined(site: EnrolledSite, part: str) -> None:
    gateway = StandInGateway()
    gateway.url = "http://localhost:1"
    honest, other = gateway.order(), gateway.order(weights=b"other", plan=plan_zip(other="x"))
    changes = {part: getattr(other, part)}
    assert "others than were signed" in declined(site, honest.model_copy(update=changes))


def test_a_round_is_worked_on_once_under_whatever_name_it_comes(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with site.running(gateway):
                await gateway.hears(Hello)
                first = gateway.order(1)
                await gateway.tell(first)
                await gateway.hears(ReportMessage)
            async with site.running(gateway):  # also after a restart
                await gateway.hears(Hello, 2)
                await gateway.tell(first)
                await gateway.tell(first.model_copy(update={"id": "another-name"}))
                await gateway.tell(gateway.order(2, round_id="r-1", weights=b"other"))
                await gateway.hears(Decline, 3)
                assert all("done here before" in told.reason for told in gateway.heard(Decline))
                await gateway.tell(gateway.order(3, plan=plan_zip(do="wait")))
                await gateway.hears(Accept, 2)
                await gateway.tell(gateway.order(3).model_copy(update={"id": "beside-it"}))
                assert "worked on already" in (await gateway.hears(Decline, 4)).reason
        assert len(gateway.heard(ReportMessage)) == 1

    in_loop(scenario)


def test_rounds_come_no_more_often_than_the_policy_says(site: EnrolledSite) -> None:
    site.write_policy(seconds_between=3600.0)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with site.running(gateway):
                await gateway.hears(Hello)
                await gateway.tell(gateway.order(1))
                await gateway.hears(ReportMessage)
            async with site.running(gateway):
                await gateway.hears(Hello, 2)
                await gateway.tell(gateway.order(2))
                assert "seconds_between" in (await gateway.hears(Decline)).reason

    in_loop(scenario)


def test_a_flood_of_orders_makes_a_site_say_little(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            for number in range(3 * assignments.DECLINES_A_MINUTE):
                await gateway.tell(gateway.order(number, key=OTHER))
            await gateway.tell(gateway.order(999))
            await gateway.hears(ReportMessage)
            assert len(gateway.heard(Decline)) == assignments.DECLINES_A_MINUTE

    in_loop(scenario)


def test_no_more_is_taken_on_than_can_be_named(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            for number in range(assignments.MOST + 1):
                await gateway.tell(gateway.order(number, plan=plan_zip(do="wait")))
            assert "worked on already" in (await gateway.hears(Decline)).reason
            assert len(gateway.heard(Accept)) == assignments.MOST

    in_loop(scenario)


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return buffer.getvalue()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    return entry


HOSTILE_ZIPS = {
    "traversal": zipped(("../../escaped", b"x")),
    "absolute": zipped(("/tmp/escaped", b"x")),
    "backslash": zipped(("..\\escaped", b"x")),
    "inner traversal": zipped(("a/../../escaped", b"x")),
    "hidden": zipped((".bashrc", b"x")),
    "empty part": zipped(("a//b", b"x")),
    "link": zipped((special("link", stat.S_IFLNK), b"/etc/passwd")),
    "link and through it": zipped((special("a", stat.S_IFLNK), b"/tmp"), ("a/escaped", b"x")),
    "device": zipped((special("null", stat.S_IFCHR), b"")),
    "pipe": zipped((special("pipe", stat.S_IFIFO), b"")),
    "bomb": zipped(("zeros", bytes(64 << 20))),
    "many": zipped(*((f"f{number}", b"") for number in range(MOST + 1))),
    "file and folder": zipped(("a", b"x"), ("a/b", b"x")),
    "long name": zipped(("a" * 301, b"x")),
    "lzma": zipped(("a", b"x" * 100), method=zipfile.ZIP_LZMA),
    "not a zip": b"hello",
    "empty": b"",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [*HOSTILE_ZIPS, "twice", "says too little"])
def test_a_plan_stays_in_its_folder_and_small(tmp_path: Path, name: str) -> None:
    if name == "twice":
        data = zipped(("a", b"x"), ("a", b"y"))
    elif name == "says too little":
        data = zipped(("a", b"x" * 5000), method=zipfile.ZIP_STORED)
        data = data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    else:
        data = HOSTILE_ZIPS[name]
    archive = tmp_path / "plan.zip"
    archive.write_bytes(data)
    with pytest.raises(IntegrityError):
        Plans(tmp_path / "plans").add(digest(data), archive)
    assert not list((tmp_path / "plans").iterdir())
    assert not list(tmp_path.rglob("escaped"))
    assert not Path("/tmp/escaped").exists()


@settings(max_examples=200)
@given(
    mutants([plan_zip(**{"work.json": "{}", "variables/a": "x" * 500}), zipped(("a/", b""), ("a/b", b"x"))])
)
def test_a_changed_zip_file_is_unpacked_in_its_folder_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "plan.zip")
        archive.write_bytes(data)
        plan = read_or_refused(
            lambda: Plans(Path(folder, "plans")).add(digest(data), archive), IntegrityError
        )
        assert {path.name for path in Path(folder).iterdir()} == {"plan.zip", "plans"}
        if plan is not None:
            assert all(path.resolve().is_relative_to(plan.resolve()) for path in plan.rglob("*"))
            assert sum(path.stat().st_size for path in plan.rglob("*")) <= LIMIT


def test_a_plan_that_writes_elsewhere_is_a_failed_round(site: EnrolledSite) -> None:
    plan = HOSTILE_ZIPS["traversal"]
    assert "no place in its folder" in failure(site, StandInGateway(), plan=plan)


def test_bytes_of_another_digest_are_a_failed_round(site: EnrolledSite) -> None:
    gateway = StandInGateway()
    gateway.http = lambda method, path, headers, body: Answer(200, b"x" * 7) if "/objects/" in path else None
    assert "was promised: refused" in failure(site, gateway, plan=b"1234567")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"x" * 100_000),
        Answer(200, b"x" * 100_000, {"Content-Length": str(1 << 60)}),
        Answer(200, b"100000\r\n" + b"x" * (1 << 20) + b"\r\n", {"Transfer-Encoding": "chunked"}),
    ],
    ids=["more than said", "a huge length", "chunks without end"],
)
def test_no_byte_more_is_taken_than_was_announced(site: EnrolledSite, answer: Answer) -> None:
    answer.headers.setdefault("Content-Length", "100000")
    if "Transfer-Encoding" in answer.headers:
        del answer.headers["Content-Length"]
    gateway = StandInGateway()
    gateway.http = lambda method, path, headers, body: answer if "/objects/" in path else None
    assert "sends more than the" in failure(site, gateway)


def test_an_encoding_that_was_not_asked_for_is_not_undone(site: EnrolledSite) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    gateway = StandInGateway()

    def encoded(method: str, path: str, headers: Any, body: bytes) -> Answer | None:
        return Answer(200, bomb, {"Content-Encoding": "gzip"}) if "/objects/" in path else None

    gateway.http = encoded
    assert "not done within" in failure(site, gateway, seconds_left=1.0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(site: EnrolledSite, status: int) -> None:
    other = StandInGateway()
    asked: list[str] = []
    other.http = lambda method, path, headers, body: asked.append(path) or Answer(200)  # type: ignore[func-returns-value]

    async def scenario() -> None:
        async with other, StandInGateway() as gateway:
            await site.enroll(gateway)
            away = Answer(status, headers={"Location": f"{other.url}/v1/connect"})
            turned: list[str] = []

            def redirect(method: str, path: str, headers: Any, body: bytes) -> Answer | None:
                if path == "/v1/connect" and not turned:
                    turned.append(path)
                    return away
                return away if "/objects/" in path else None

            gateway.http = redirect
            async with site.running(gateway):
                await gateway.hears(Hello)
                await gateway.tell(gateway.order())
                assert "redirects are not followed" in str((await gateway.hears(ReportMessage)).failure)
        assert asked == []
        assert other.sessions == []

    in_loop(scenario)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:1/v1/objects/x",
        "//other.example.com/x",
        "http://localhost@other.example.com/",
        "gopher://localhost/x",
        "http://[::1",
        "http://localhost:99999/x",
        "javascript:alert(1)",
    ],
)
def test_a_gateway_sends_a_site_nowhere_else(site: EnrolledSite, url: str) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            assignment = gateway.order(1)
            plan = assignment.plan.model_copy(update={"url": url})
            await gateway.tell(assignment.model_copy(update={"plan": plan}))
            report = await gateway.hears(ReportMessage)
            assert "the gateway" in str(report.failure)

            async def elsewhere(session: Any, message: Any) -> None:
                await session.send(UploadPlace(assignment=message.assignment, url=url))

            gateway.react["upload"] = elsewhere
            await gateway.tell(gateway.order(2))
            report = await gateway.hears(ReportMessage, 2)
            assert report.update is None
            assert "the gateway" in str(report.failure)
            assert gateway.puts == []

    in_loop(scenario)


def test_an_address_is_the_gateways_or_one_that_the_policy_names() -> None:
    gateway = Address.of("https://gateway.example.com/fleet/")
    assert gateway.object("v1/objects/a") == "https://gateway.example.com/fleet/v1/objects/a"
    assert gateway.object("https://GATEWAY.example.com:443/a") == "https://GATEWAY.example.com:443/a"
    assert gateway.object("https://b.s3.example.com/a?X=1", ["b.s3.example.com"])
    for url in (
        "https://gateway.example.com:8443/a",
        "http://gateway.example.com/a",
        "https://s3.example.com/a",
    ):
        with pytest.raises(SiteError):
            gateway.object(url, ["b.s3.example.com"])


@pytest.mark.parametrize("piece", [*PIECES, b'{"type": "assignment"}', b'{"type": "hello"}', b"[]"])
def test_a_site_survives_words_that_are_none_of_the_protocol(site: EnrolledSite, piece: bytes) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.sessions[-1].send_text(piece.decode("utf-8", "replace"))
            await gateway.hears(Hello, 2)
            await gateway.tell(gateway.order())
            await gateway.hears(ReportMessage)

    in_loop(scenario)


def test_a_site_survives_bytes_that_are_no_websocket_and_messages_without_end(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            long = Challenge(nonce="A" * 44, gateway="g", at=1.0).model_dump_json()
            for number, hostile in enumerate(
                [
                    b"\xff" * 1000,
                    b"\x81\x7f" + (1 << 62).to_bytes(8, "big") + b"x" * 1000,  # a frame of 2^62 bytes
                    b"\x01\x7e\xff\xff" + b"x" * 65535 + b"\x00\x7e\xff\xff" + b"x" * 65535,  # fragments
                    b"\x82\x01x",  # binary
                    b"\x88\x00",  # closes
                ],
                1,
            ):
                await gateway.hears(Hello, number)
                gateway.sessions[-1]._writer.write(hostile)
            await gateway.hears(Hello, 6)
            await gateway.sessions[-1].send_text(long + " " * LARGEST_MESSAGE)
            await gateway.hears(Hello, 7)
            await gateway.tell(gateway.order())
            await gateway.hears(ReportMessage)

    in_loop(scenario)


@pytest.mark.parametrize(
    "first",
    [
        Heartbeat(),
        Welcome(version=1, session="s", heartbeat_seconds=1.0),
        Challenge(nonce="A==", gateway="g", at=1.0),
    ],
)
def test_a_gateway_that_skips_the_proof_gets_no_hello(site: EnrolledSite, first: Any) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:

            async def skip(session: Any, message: Any) -> None:
                await session.send(first)

            gateway.react["challenge"] = skip
            async with site.running(gateway):
                while len(gateway.sessions) < 3:
                    await asyncio.sleep(0.01)
                assert gateway.said == []

    in_loop(scenario)


def test_a_version_that_is_not_spoken_here_ends_the_connection(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:

            async def newer(session: Any, message: Any) -> None:
                await session.send(Welcome(version=99, session="s", heartbeat_seconds=1.0))

            gateway.react["hello"] = newer
            async with site.running(gateway):
                await gateway.hears(Hello, 3)
            assert {message.type for message in gateway.said} == {"hello"}

    in_loop(scenario)


def test_a_runner_tells_nothing_of_where_the_data_lie(site: EnrolledSite) -> None:
    words = failure(site, StandInGateway(), plan=plan_zip(do="complain"))
    assert words == "steps/train/x.npy has NaN"


def test_an_update_that_the_policy_finds_too_large_stays_here(site: EnrolledSite) -> None:
    site.write_policy(limits={"upload_bytes": 1 << 20})
    gateway = StandInGateway()
    assert "runner" in failure(site, gateway, plan=plan_zip(do="large"))
    assert gateway.heard(UploadRequest) == []
