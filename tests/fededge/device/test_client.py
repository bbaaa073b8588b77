"""The client against a stand-in gateway: what it connects with, accepts, declines, hands in and writes down."""

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from fededge.device import journal
from fededge.device.history import remembered
from fededge.errors import SiteError
from fededge.protocol import (
    Accept,
    Bye,
    Cancel,
    Decline,
    Heartbeat,
    Hello,
    Received,
    Refused,
    ReportMessage,
    UploadRequest,
)
from fededge.storage import digest
from tests.enrolled_site import SCHEMA, EnrolledSite, in_loop
from tests.stand_in_gateway import CLIENT, TENANT, Answer, StandInGateway, plan_zip

pytestmark = pytest.mark.environment("edge")


@pytest.fixture
def site(tmp_path: Path) -> EnrolledSite:
    return EnrolledSite(tmp_path)


def lines(site: EnrolledSite) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.folder / "journal.jsonl").read_text().splitlines()]


def outcomes(site: EnrolledSite) -> dict[str, str]:
    return {known.round: known.outcome for known in remembered(site.folder / "store.db", 100)}


def test_a_client_says_who_it_is_and_what_it_holds(site: EnrolledSite) -> None:
    site.write_data(7, "test")

    async def scenario() -> Hello:
        async with StandInGateway() as gateway, site.running(gateway):
            return await gateway.hears(Hello)

    hello = in_loop(scenario)
    assert (hello.tenant, hello.client, hello.frameworks) == (TENANT, CLIENT, ["keras"])
    (dataset,) = hello.datasets
    assert (dataset.name, dataset.train, dataset.test) == ("steps", 40, 7)
    assert dataset.schema_digest == SCHEMA.form_digest
    assert hello.capabilities["isolation"] in ("namespaces", "none")
    assert hello.conditions["busy"] == "false"


def test_a_round_is_accepted_trained_uploaded_and_reported(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(number=7, weights=b"first"))
            report = await gateway.hears(ReportMessage)
            assert report.update is not None
            update = bytes(gateway.uploads[report.update.removeprefix("sha256:")])
            assert digest(update) == report.update
            assert json.loads(update) == {
                "weights": "first",
                "began": 1,
                "do": "train",
                "seed": 3,
                "round": 7,
                "client": CLIENT,
                "share": 1.0,
                "most": 40,
            }
            kinds = [message.type for message in gateway.said if not isinstance(message, Heartbeat)]
            assert kinds == ["hello", "accept", "upload", "report"]
        assert outcomes(site) == {"r-7": "kept"}
        assert not list((site.folder / "work").iterdir())

    in_loop(scenario)


def test_an_update_goes_to_the_place_that_came_with_the_order(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(upload=f"{gateway.url}/v1/uploads/open"))
            report = await gateway.hears(ReportMessage)
            assert [f"sha256:{name}" for name in gateway.uploads] == [report.update]
            assert not gateway.heard(UploadRequest)
            assert [line["digest"] for line in lines(site) if line["purpose"] == "update"] == [report.update]
        assert outcomes(site) == {"r-1": "kept"}

    in_loop(scenario)


def test_another_place_is_asked_for_where_that_one_does_not_do(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            kept = iter([40])

            def limit(path: str, have: int) -> int | None:
                return next(kept, None) if path.endswith("/open") else None

            gateway.upload_limit = limit
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(upload="/v1/uploads/open"))
            report = await gateway.hears(ReportMessage)
            assert report.update
            assert digest(bytes(gateway.uploads[report.update.removeprefix("sha256:")])) == report.update
            assert len(gateway.heard(UploadRequest)) == 1

    in_loop(scenario)


def test_evaluation_and_ranges_are_told_in_the_report_itself(site: EnrolledSite) -> None:
    site.write_data(30, "test")

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(1, kind="evaluate"))
            assert (await gateway.hears(ReportMessage)).counts == {"examples": 4.0, "loss_sum": 1.0}
            await gateway.tell(gateway.order(2, kind="ranges"))
            assert (await gateway.hears(ReportMessage, 2)).ranges == {
                "examples": 4,
                "low": [0.0],
                "high": [1.0],
            }
            assert gateway.uploads == {}

    in_loop(scenario)


def test_a_runner_stays_for_the_next_round_of_the_same_plan(site: EnrolledSite) -> None:
    async def scenario() -> list[int]:
        began = []
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            for number, plan in enumerate([plan_zip(), plan_zip(), plan_zip(other="x")], 1):
                await gateway.tell(gateway.order(number, plan=plan))
                report = await gateway.hears(ReportMessage, number)
                assert report.update
                began.append(json.loads(gateway.uploads[report.update.removeprefix("sha256:")])["began"])
            return began

    assert in_loop(scenario) == [1, 2, 1]


def test_the_journal_names_every_byte_that_left(site: EnrolledSite) -> None:
    async def scenario() -> list[Any]:
        async with StandInGateway() as gateway, site.running(gateway):
            gateway.heartbeat_seconds = 1.0
            await gateway.hears(Heartbeat)
            await gateway.tell(gateway.order())
            await gateway.hears(ReportMessage)
            await gateway.hears(Heartbeat, 2)
        return [message for message in gateway.said if message != Heartbeat()]

    said = in_loop(scenario)
    wrote = lines(site)
    assert wrote[0]["purpose"] == "enroll"
    assert "content" not in wrote[0]
    messages = [line for line in wrote if line["purpose"] not in ("enroll", "update")]
    assert [line["purpose"] for line in messages] == [message.type for message in said]
    assert [json.loads(line["content"])["type"] for line in messages] == [message.type for message in said]
    (update,) = [line for line in wrote if line["purpose"] == "update"]
    (report,) = [message for message in said if isinstance(message, ReportMessage)]
    assert (update["round"], update["digest"], update["offset"]) == ("r-1", report.update, 0)
    assert update["bytes"] == next(m.bytes for m in said if isinstance(m, UploadRequest))
    assert journal.verify(site.folder / "journal.jsonl").lines == len(wrote)


def test_what_the_journal_cannot_hold_is_not_sent(
    site: EnrolledSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fededge.errors import StorageError

    full = [True]
    write = journal.Journal.note

    def note(self: Any, *arguments: Any, **options: Any) -> None:
        if full[0]:
            raise StorageError("the disk is full")
        write(self, *arguments, **options)

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            await site.enroll(gateway)
            monkeypatch.setattr(journal.Journal, "note", note)
            async with site.running(gateway):
                await gateway.until(lambda: len(gateway.sessions) >= 3)
                assert gateway.said == []
                full[0] = False
                await gateway.hears(Hello)

    in_loop(scenario)


def test_a_cut_connection_is_made_again_and_names_session_and_work(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            assignment = gateway.order(plan=plan_zip(do="wait"))
            await gateway.tell(assignment)
            await gateway.hears(Accept)
            gateway.sessions[-1].cut()
            hello = await gateway.hears(Hello, 2)
            assert (hello.resume, hello.working) == ("s-1", [assignment.id])
            await began(site)
            gateway.sessions[-1].cut()
            (site.folder / "runner" / "files" / "go").touch()
            await gateway.hears(ReportMessage)
        assert len(gateway.heard(ReportMessage)) == 1

    in_loop(scenario)


def test_an_answer_that_was_lost_is_asked_for_again(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):

            async def lose(session: Any, message: Any) -> None:
                del gateway.react[message.type]
                session.cut()

            await gateway.hears(Hello)
            gateway.react = {"upload": lose, "report": lose}
            await gateway.tell(gateway.order())
            first, second = await gateway.hears(ReportMessage, 1), await gateway.hears(ReportMessage, 2)
            assert first == second
            assert len(gateway.heard(UploadRequest)) == 2
        assert outcomes(site) == {"r-1": "kept"}

    in_loop(scenario)


def test_an_upload_goes_on_from_what_is_there(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            kept = iter([40])

            def limit(path: str, have: int) -> int | None:
                return next(kept, None) if path.startswith("/v1/uploads") else None

            gateway.upload_limit = limit
            await gateway.hears(Hello)
            await gateway.tell(gateway.order())
            report = await gateway.hears(ReportMessage)
            assert report.update
            update = bytes(gateway.uploads[report.update.removeprefix("sha256:")])
            assert digest(update) == report.update
            whole = len(update)
            assert [(name, size) for _, name, size in gateway.puts] == [
                ("", 40),
                (f"bytes 40-{whole - 1}/{whole}", whole - 40),
            ]

    in_loop(scenario)


def test_a_download_goes_on_where_it_was_cut_off(site: EnrolledSite) -> None:
    weights = bytes(range(256)) * 4000

    async def scenario() -> list[str]:
        ranges = []
        async with StandInGateway() as gateway, site.running(gateway):
            place = gateway.keep(weights).url.removeprefix(gateway.url)

            def cut(method: str, path: str, headers: Any, body: bytes) -> Answer | None:
                if path != place:
                    return None
                ranges.append(headers.get("range", ""))
                return Answer(200, weights, cut=300_000) if len(ranges) == 1 else None

            gateway.http = cut
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(weights=weights, kind="ranges"))
            assert (await gateway.hears(ReportMessage)).failure is None
            return ranges

    first, second = in_loop(scenario)
    assert (first, second) == ("", "bytes=300000-")


@pytest.mark.parametrize(
    ("name", "size"), [("weights", 10_240), ("weights.part", 10_240), ("weights.part", 99)]
)
def test_a_file_that_a_power_failure_damaged_is_fetched_anew(
    site: EnrolledSite, name: str, size: int
) -> None:
    weights = bytes(range(256)) * 40

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            order = gateway.order(weights=weights, kind="ranges")
            asked = []
            gateway.http = lambda method, path, headers, body: asked.append(gateway.url + path)
            await gateway.hears(Hello)
            damaged = site.folder / "work" / order.id / name
            damaged.parent.mkdir(parents=True)
            damaged.write_bytes(b"?" * size)
            await gateway.tell(order)
            assert (await gateway.hears(ReportMessage)).failure is None
            assert order.weights.url in asked

    in_loop(scenario)


def test_addresses_that_are_good_no_longer_are_asked_for_again(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            assignment = gateway.order()
            expired = dict.fromkeys(("plan", "weights"), f"{gateway.url}/v1/objects/expired")
            parts = {name: getattr(assignment, name) for name in expired}
            changes = {name: part.model_copy(update={"url": expired[name]}) for name, part in parts.items()}
            await gateway.tell(assignment.model_copy(update=changes))
            await gateway.hears(Accept)
            assert (await gateway.hears(Hello, 2)).working == []
            await gateway.tell(assignment)
            assert (await gateway.hears(ReportMessage)).failure is None

    in_loop(scenario)


def test_work_that_nobody_waits_for_ends_within_a_second(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            assignment = gateway.order(plan=plan_zip(do="wait"))
            await gateway.tell(assignment)
            child = await began(site)
            await gateway.tell(Cancel(assignment=assignment.id))
            while outcomes(site) != {"r-1": "canceled"}:
                await asyncio.sleep(0.01)
            assert not child.is_running()
            await gateway.tell(gateway.order(2))
            await gateway.hears(ReportMessage)
        assert outcomes(site) == {"r-1": "canceled", "r-2": "kept"}

    in_loop(scenario)


def test_an_update_that_the_gateway_lost_is_sent_again(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):

            async def lost(session: Any, message: Any) -> None:
                del gateway.react["report"]
                gateway.uploads.clear()
                await session.send(Received(assignment=message.assignment, of="report", outcome="refused"))

            await gateway.hears(Hello)
            gateway.react["report"] = lost
            await gateway.tell(gateway.order())
            report = await gateway.hears(ReportMessage, 2)
            assert [f"sha256:{name}" for name in gateway.uploads] == [report.update]
        assert outcomes(site) == {"r-1": "kept"}

    in_loop(scenario)


@pytest.mark.parametrize("outcome", ["late", "refused"])
def test_a_round_that_is_over_leaves_nothing_behind(site: EnrolledSite, outcome: Any) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):

            async def over(session: Any, message: Any) -> None:
                await session.send(Received(assignment=message.assignment, of="report", outcome=outcome))

            await gateway.hears(Hello)
            gateway.react["upload"] = over
            await gateway.tell(gateway.order())
            await gateway.hears(UploadRequest)
            gateway.react.clear()
            await gateway.tell(gateway.order(2))
            await gateway.hears(ReportMessage)
        assert outcomes(site) == {"r-1": outcome, "r-2": "kept"}
        assert len(gateway.uploads) == 1
        assert not list((site.folder / "work").iterdir())

    in_loop(scenario)


def test_the_deadline_ends_work_and_is_reported(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(plan=plan_zip(do="wait"), seconds_left=1.5))
            assert "within the 2 s" in str((await gateway.hears(ReportMessage)).failure)
            assert outcomes(site) == {"r-1": "failed"}  # before the gateway's answer, and after it
            while list((site.folder / "work").iterdir()):
                await asyncio.sleep(0.01)
        assert outcomes(site) == {"r-1": "failed"}

    in_loop(scenario)


def test_a_wall_clock_that_jumps_changes_nothing(site: EnrolledSite) -> None:
    site.write_policy(seconds_between=0.0, rounds_per_day=2)
    wall = [time.time()]

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway, wall=lambda: wall[0]):
            gateway.heartbeat_seconds = 1.0
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(1, plan=plan_zip(do="wait")))
            await began(site)
            wall[0] += 7 * 86_400
            await gateway.hears(Heartbeat, 2)
            wall[0] -= 30 * 86_400
            await gateway.hears(Heartbeat, 3)
            (site.folder / "runner" / "files" / "go").touch()
            assert (await gateway.hears(ReportMessage)).failure is None
            await gateway.tell(gateway.order(2))
            await gateway.hears(ReportMessage, 2)
            wall[0] += 60 * 86_400
            await gateway.tell(gateway.order(3))
            assert "rounds_per_day" in (await gateway.hears(Decline)).reason
            assert len(gateway.heard(Hello)) == 1

    in_loop(scenario)


def test_a_client_comes_back_when_it_was_told_to(site: EnrolledSite) -> None:
    async def scenario() -> float:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            began = asyncio.get_running_loop().time()
            await gateway.tell(Bye(reason="DRAINING", retry_seconds=1.5))
            await gateway.hears(Hello, 2)
            return asyncio.get_running_loop().time() - began

    assert in_loop(scenario) >= 1.5


def test_a_busy_gateway_is_left_alone_for_as_long_as_it_says(site: EnrolledSite) -> None:
    async def scenario() -> float:
        async with StandInGateway() as gateway:
            times: list[float] = []

            def busy(method: str, path: str, headers: Any, body: bytes) -> Answer | None:
                times.append(asyncio.get_running_loop().time())
                return Answer(503, headers={"Retry-After": "1"}) if len(times) == 2 else None

            gateway.http = busy
            async with site.running(gateway):  # which enrolls first
                await gateway.hears(Hello)
            return times[2] - times[1]

    assert in_loop(scenario) >= 1.0


def test_a_refused_client_comes_back_when_it_may_and_ends_where_a_person_must_act(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            refusals = iter([Refused(reason="OVERLOADED", message="later", retry_seconds=0.1)])

            async def refuse(session: Any, message: Any) -> None:
                last = Refused(reason="REVOKED", message="this client is revoked")
                await session.send(next(refusals, last))

            gateway.react["hello"] = refuse
            async with site.client(gateway) as client:
                with pytest.raises(SiteError, match=r"REVOKED.*Ask its operator"):
                    await client.run()
            assert len(gateway.heard(Hello)) == 2

    in_loop(scenario)


def test_a_gateway_that_falls_silent_is_left(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.heartbeat_seconds = 0.0  # a client beats once a second at most

            async def nothing(session: Any, message: Any) -> None:
                return

            gateway.react["heartbeat"] = nothing
            async with site.running(gateway):
                await gateway.hears(Hello, 2)
            assert 2 <= len(gateway.heard(Heartbeat)) <= 3

    in_loop(scenario)


def test_a_client_tells_of_a_new_dataset_at_once_and_of_one_that_grew_after_a_while(
    site: EnrolledSite,
) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway) as client:
            first = await gateway.hears(Hello)
            assert [each.name for each in first.datasets] == ["steps"]
            site.write_data(50)
            shutil.copytree(site.data, site.root / "other")
            site.write_policy(datasets={"steps": "data", "stairs": "other"})
            client.look()
            second = await gateway.hears(Hello, 2)
            assert {each.name: each.train for each in second.datasets} == {"steps": 50, "stairs": 50}
            site.write_data(60)
            client.look()
            await gateway.hears(Heartbeat, len(gateway.heard(Heartbeat)) + 1)
            client.look()
            await gateway.hears(Heartbeat, len(gateway.heard(Heartbeat)) + 1)
            assert len(gateway.heard(Hello)) == 2

    in_loop(scenario)


def test_a_client_tells_when_its_data_change(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway, refresh_seconds=0.0):
            gateway.heartbeat_seconds = 1.0
            assert (await gateway.hears(Hello)).datasets[0].train == 40
            site.write_data(50)
            assert (await gateway.hears(Hello, 2)).datasets[0].train == 50

    in_loop(scenario)


def test_a_client_learns_from_a_share_but_never_from_fewer_than_its_policy_says(site: EnrolledSite) -> None:
    async def scenario() -> list[float]:
        shares = []
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            for number, share in enumerate([0.75, 0.001], 1):
                await gateway.tell(gateway.order(number, share=share))
                report = await gateway.hears(ReportMessage, number)
                assert report.update
                shares.append(json.loads(gateway.uploads[report.update.removeprefix("sha256:")])["share"])
        return shares

    assert in_loop(scenario) == [0.75, 20 / 40]


def test_a_policy_that_forbids_it_meanwhile_keeps_the_update_here(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            await gateway.tell(gateway.order(plan=plan_zip(do="wait")))
            await began(site)
            site.write_policy(kinds=["evaluate"])
            (site.folder / "runner" / "files" / "go").touch()
            assert "does not allow train" in str((await gateway.hears(ReportMessage)).failure)
            assert gateway.uploads == {}

    in_loop(scenario)


def test_a_policy_with_a_mistake_allows_nothing(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            good = site.policy_file.read_text()
            site.policy_file.write_text("rules: []")
            await gateway.tell(gateway.order())
            assert (await gateway.hears(Decline)).reason == "this site's policy cannot be read for now"
            site.policy_file.write_text(good)
            await gateway.tell(gateway.order())
            await gateway.hears(ReportMessage)

    in_loop(scenario)


async def began(site: EnrolledSite) -> Any:
    """The runner's process, once it began to work."""
    import psutil

    while not (site.folder / "runner" / "files" / "began").exists():
        await asyncio.sleep(0.01)
    (child,) = psutil.Process().children()
    return child


def test_a_report_says_how_long_its_phases_took_and_what_was_fetched(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            first = gateway.order()
            await gateway.tell(first)
            report = await gateway.hears(ReportMessage)
            assert list(report.phases) == ["fetch", "train", "upload"]
            assert 0 < report.phases["train"] <= report.seconds
            assert report.fetched == first.plan.bytes + first.weights.bytes
            second = gateway.order(2)
            await gateway.tell(second)
            again = await gateway.hears(ReportMessage, 2)
            assert again.fetched == second.weights.bytes  # it has the plan

    in_loop(scenario)


def test_a_refusal_that_names_an_assignment_is_of_no_other(site: EnrolledSite) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)

            async def refuse(session: Any, message: Any) -> None:
                """The gateway refuses something else, then answers."""
                await session.send(Refused(reason="BUSY", message="another", assignment="another"))
                await gateway._react(session, message)

            gateway.react["report"] = refuse
            await gateway.tell(gateway.order())
            await gateway.hears(ReportMessage)
            await gateway.tell(gateway.order(2))
            await gateway.hears(ReportMessage, 2)
            store = site.folder / "store.db"
            while [each.outcome for each in remembered(store, 9)] != ["kept", "kept"]:
                await asyncio.sleep(0.01)
            assert len(gateway.heard(ReportMessage)) == 2  # none was sent again

    in_loop(scenario)
