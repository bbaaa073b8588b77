"""Faults: a site killed at any phase, a network that breaks, a disk that is full. Nothing is lost or done twice."""

import asyncio
import os
import random
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from fededge.device import assignments, journal
from fededge.device.history import remembered
from fededge.protocol import Accept, Decline, Hello, ReportMessage, UploadRequest
from fededge.storage import digest
from tests.enrolled_site import EnrolledSite, in_loop
from tests.stand_in_gateway import Answer, StandInGateway, plan_zip

pytestmark = pytest.mark.environment("worker")


@pytest.fixture
def site(tmp_path: Path) -> EnrolledSite:
    return EnrolledSite(tmp_path)


async def nothing(session: Any, message: Any) -> None:
    """The gateway says nothing to that."""


def finished(site: EnrolledSite) -> bool | None:
    """Whether the work of the site's only assignment is done, as it is on disk; None: it has none."""
    try:
        with closing(sqlite3.connect(f"file:{site.folder}/store.db?mode=ro", uri=True)) as database:
            found = database.execute("SELECT report IS NOT NULL FROM assignments").fetchone()
    except sqlite3.Error:
        return None
    return bool(found[0]) if found else None


async def until_training(site: EnrolledSite) -> None:
    while not (site.folder / "runner" / "files" / "began").exists():
        await asyncio.sleep(0.01)


async def reach(site: EnrolledSite, gateway: StandInGateway, where: str) -> None:
    """Let the site come to a phase, and no further."""
    plan = plan_zip(do="wait") if where in ("fetched", "training") else plan_zip()
    if where in ("accepted", "fetching"):
        refuse = Answer(200, b"x" * 9999, cut=5) if where == "fetching" else Answer(503)
        gateway.http = lambda method, path, headers, body: refuse if "/objects/" in path else None
    if where == "trained":
        gateway.react["upload"] = nothing
    if where == "uploading":
        gateway.upload_limit = lambda path, have: 40 if "/uploads/" in path else None
    if where in ("uploaded", "reported"):
        gateway.react["report"] = nothing
    await gateway.tell(gateway.order(plan=plan))
    await gateway.hears(Accept)
    if where == "fetched":
        while not [*site.folder.glob("work/*/weights")]:
            await asyncio.sleep(0.01)
    elif where == "training":
        await until_training(site)
    elif where == "trained":
        await gateway.hears(UploadRequest)
        assert finished(site)
    elif where == "uploading":
        await gateway.until(lambda: gateway.puts)
    elif where == "uploaded":
        await gateway.until(
            lambda: any(digest(bytes(part)) == f"sha256:{name}" for name, part in gateway.uploads.items())
        )
    elif where == "reported":
        await gateway.hears(ReportMessage)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    ["accepted", "fetching", "fetched", "training", "trained", "uploading", "uploaded", "reported"],
)
def test_a_site_that_is_killed_goes_on_and_reports_once(site: EnrolledSite, where: str) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            async with site.process(gateway) as process:
                await gateway.hears(Hello)
                await reach(site, gateway, where)
                children = psutil.Process(process.pid).children(recursive=True)
                process.kill()
                await process.wait()
            _, alive = await asyncio.to_thread(psutil.wait_procs, children, 30)
            assert alive == []
            gateway.behave()
            before = len(gateway.heard(Hello))
            async with site.process(gateway):
                hello = await gateway.hears(Hello, before + 1)
                assert (hello.working, hello.resume) == (["r-1.ward-3"], "s-1")
                if where in ("fetched", "training"):
                    await until_training(site)
                    (site.folder / "runner" / "files" / "go").touch()
                while finished(site) is not None:
                    await asyncio.sleep(0.01)
                await gateway.tell(gateway.order(plan=plan_zip()))
                assert "done here before" in (await gateway.hears(Decline)).reason
            reports = gateway.heard(ReportMessage)
            assert reports
            assert len({report.model_dump_json(exclude={"phases"}) for report in reports}) == 1
            (update,) = gateway.uploads.values()
            assert digest(bytes(update)) == reports[0].update
        assert [known.outcome for known in remembered(site.folder / "store.db", 9)] == ["kept"]
        journal.verify(site.folder / "journal.jsonl")

    in_loop(scenario)


@pytest.mark.slow
def test_however_often_a_site_is_killed_each_round_is_reported_once(site: EnrolledSite) -> None:
    rounds, chance = 6, random.Random(7)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            pending = {f"r-{number}.ward-3": gateway.order(number) for number in range(1, rounds + 1)}

            async def send_again(session: Any, hello: Any) -> None:
                """As a gateway does: what a client does not name, and nobody reported, is sent."""
                await gateway._react(session, hello)
                done = {report.assignment for report in gateway.heard(ReportMessage)}
                for id, assignment in pending.items():
                    if id not in done and id not in hello.working:
                        await session.send(assignment)

            gateway.react["hello"] = send_again
            kills = 0
            while len({report.assignment for report in gateway.heard(ReportMessage)}) < rounds:
                async with site.process(gateway) as process:
                    await gateway.hears(Hello, len(gateway.heard(Hello)) + 1)
                    await asyncio.sleep(chance.uniform(0, 0.6))
                    process.kill()
                    kills += 1
            async with site.process(gateway):
                while finished(site) is not None:
                    await asyncio.sleep(0.01)
            assert kills > 0
            said: dict[str, set[Any]] = {}
            for report in gateway.heard(ReportMessage):
                said.setdefault(report.assignment, set()).add((report.update, report.failure))
            assert set(said) == set(pending)
            assert all(len(each) == 1 for each in said.values())
            assert {f"sha256:{name}" for name in gateway.uploads} == {
                u for each in said.values() for u, _ in each
            }
        journal.verify(site.folder / "journal.jsonl")

    in_loop(scenario)


@pytest.mark.slow
def test_a_gateway_that_is_away_for_a_while_gets_what_was_done_meanwhile(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(plan=plan_zip(do="wait")))
            await until_training(site)
            gateway._server.close()
            gateway.sessions[-1].cut()
            (site.folder / "runner" / "files" / "go").touch()
            while not finished(site):
                await asyncio.sleep(0.01)
            gateway._server = await asyncio.start_server(gateway._serve, "127.0.0.1", gateway.port)
            assert (await gateway.hears(ReportMessage)).update is not None

    in_loop(scenario)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_work_that_the_disk_has_no_room_for_is_declined(site: EnrolledSite, small_disk: Path) -> None:
    site.folder = small_disk / "site"

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order())
            assert "bytes of disk" in (await gateway.hears(Decline)).reason

    in_loop(scenario)


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_work_until_there_is_room(
    site: EnrolledSite, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.folder = small_disk / "site"
    monkeypatch.setattr(assignments, "SPARE_BYTES", 0)
    weights = bytes(1 << 20)

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            asked = []

            def fill(method: str, path: str, headers: Any, body: bytes) -> Answer | None:
                if "/objects/" in path:
                    asked.append(path)
                    if len(asked) == 1:
                        (small_disk / "full").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
                return None

            gateway.http = fill
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(kind="ranges", weights=weights))
            await gateway.until(lambda: len(asked) >= 2)
            assert gateway.heard(ReportMessage) == []
            (small_disk / "full").unlink()
            assert (await gateway.hears(ReportMessage)).failure is None
        journal.verify(site.folder / "journal.jsonl")

    in_loop(scenario)
