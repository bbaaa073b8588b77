"""One assignment on its way: fetching, training (or evaluating), uploading, reporting.

    accepted -> fetching -> training -> uploading -> reporting -> gone
                                  \\-> (counts, ranges, a failure) --^

It goes on while there is no connection, wherever it was after a restart, and ends at any moment when its task is
canceled: the child that works for it is killed.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from fededge.device.child import Answered, RunnerFailed, Setting
from fededge.device.eligible import while_eligible
from fededge.device.judging import Verdict, harmless, judged
from fededge.device.pace import Pace
from fededge.device.policy import Loaded
from fededge.device.store import Held
from fededge.device.workplace import Workplace
from fededge.documents.base import first_mistake
from fededge.errors import FedEdgeError, GatewayError, SiteError, StorageError, shown
from fededge.protocol import (
    LARGEST_MESSAGE,
    Assignment,
    Object,
    Phase,
    Received,
    ReportMessage,
    UploadPlace,
    UploadRequest,
)

log = logging.getLogger("fededge.site")
RENEWALS = 5
"""How often the addresses of plan and weights are asked for again, before it is a failure."""
SENDINGS = 2
"""How often an update is sent that the gateway says it has, and then refuses."""
WORDS = 500
"""Most letters of a failure."""


class Work:
    """One assignment.

    Args:
        place: where it is worked on.
        held: the assignment, as far as it is.
        renew: asks the gateway for new addresses.

    Attributes:
        stale: whether its addresses are good no longer: the gateway is to send it again.
    """

    def __init__(self, place: Workplace, held: Held, renew: Callable[[], None]) -> None:
        self._place, self._held, self._ask_anew = place, held, renew
        self._assignment, self._report = held.assignment, held.report
        self._folder = place.work_folder(held.assignment.id)
        self._fresh = asyncio.Event()
        self._learned: tuple[str, int] | None = None
        self._phases: dict[Phase, float] = {}
        self._bytes = 0
        self._upload_url = None if held.report else held.assignment.upload
        self.stale = False

    def renewed(self, assignment: Assignment) -> None:
        """The gateway sent it again; its addresses are taken, and nothing else."""
        parts = {name: getattr(self._assignment, name) for name in ("plan", "weights")}
        sent = {name: getattr(assignment, name).url for name in parts}
        changes = {name: part.model_copy(update={"url": sent[name]}) for name, part in parts.items()}
        self._assignment, self.stale = self._assignment.model_copy(update=changes), False
        self._place.store.renew(self._assignment)
        self._fresh.set()

    async def run(self) -> None:
        """Go through all phases, then forget it."""
        pace = Pace()
        while True:
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                outcome = await self._through()
                if outcome == "kept" and self._report and self._report.failure:
                    outcome = "failed"
                self._place.store.drop(self._assignment.id, outcome)
                break
            except OSError as error:
                self._say(f"cannot use {self._folder}: {error.strerror}; trying again")
            except StorageError as error:
                self._say(f"{error}; trying again")
            await asyncio.sleep(pace.next())
        self._say(f"done: {outcome}")
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _through(self) -> str:
        """All phases that are left; what the gateway said in the end."""
        if self._report is None:
            self._report = await self._worked()
            learned = self._learned if self._report.update is not None else None
            self._place.store.finish(self._report, learned)
        for _ in range(SENDINGS):
            if self._report.update is not None:
                over = await self._handed_in(self._report)
                if over is not None:
                    return over
            outcome = await self._told(self._report)
            if outcome != "refused" or self._report.update is None:
                break
        return outcome

    async def _handed_in(self, report: ReportMessage) -> str | None:
        """Upload the update of `report`; the outcome, where the round is over for this client."""
        assert report.update is not None
        began = time.monotonic()
        try:
            over = await self._upload(report.update)
        except SiteError as error:
            self._report = self._failure(str(error), report.seconds)
            self._place.store.finish(self._report)
            return None
        if over is None:
            phases = report.phases | {"upload": time.monotonic() - began}
            self._report = report.model_copy(update={"phases": phases})
        return over

    async def _told(self, report: ReportMessage) -> str:
        """Send the report; what the gateway says to it."""
        self._say("reporting" + (f" a failure: {report.failure}" if report.failure else ""))
        answer = await self._place.line.ask(report, self._held.round)
        assert isinstance(answer, Received)
        return answer.outcome

    async def _worked(self) -> ReportMessage:
        """Fetch and work until the deadline; what came of it."""
        started = time.monotonic()
        left = self._assignment.seconds_left - self._place.clock.at_least(self._held.accepted)
        try:
            async with asyncio.timeout(max(0.0, left)):
                policy = await self._policy()
                verdict = self._verdict(policy)
                order = verdict.order
                harmless(order, self._place.store)
                work = self._answered(policy, verdict)
                answer = await while_eligible(
                    self._place, order.conditions, order.dataset, verdict.examples, work
                )
                if order.kind == "train":
                    self._learned = (order.dataset, verdict.examples)
                return self._result(answer, verdict, time.monotonic() - started)
        except StorageError:
            raise
        except TimeoutError:
            failure = (
                f"the work was not done within the {self._assignment.seconds_left:,.0f} s that there were"
            )
        except FedEdgeError as error:
            failure = str(error)
        return self._failure(failure, time.monotonic() - started)

    async def _answered(self, policy: Loaded, verdict: Verdict) -> Answered:
        """What comes of it, once plan and weights are there."""
        began = time.monotonic()
        plan = await self._fetched(policy)
        self._phases["fetch"] = time.monotonic() - began
        self._say({"train": "training", "evaluate": "evaluating"}.get(verdict.order.kind, "measuring"))
        began = time.monotonic()
        answer = await self._asked(policy, verdict, plan)
        self._phases["train"] = time.monotonic() - began
        return answer

    async def _policy(self) -> Loaded:
        """The policy, once it can be read."""
        pace = Pace(longest=30.0)
        while True:
            try:
                return self._place.policy.current()
            except SiteError as error:
                self._say(f"waiting: {error}")
                await asyncio.sleep(pace.next())

    def _verdict(self, policy: Loaded) -> Verdict:
        place = self._place
        return judged(self._assignment, policy, place.identity.tenant, place.frameworks, place.isolated)

    async def _fetched(self, policy: Loaded) -> Path:
        """The folder of the plan, once it and the weights are there."""
        plan = self._place.plans.find(self._assignment.plan.digest)
        if plan is None:
            archive = self._folder / "plan.zip"
            await self._fetch(lambda: self._assignment.plan, archive, policy)
            plan = await asyncio.to_thread(self._place.plans.add, self._assignment.plan.digest, archive)
            archive.unlink()
        await self._fetch(lambda: self._assignment.weights, self._folder / "weights", policy)
        return plan

    async def _fetch(self, wanted: Callable[[], Object], target: Path, policy: Loaded) -> None:
        self._say(f"fetching {target.name} ({wanted().bytes:,} bytes)")
        self._bytes += 0 if target.exists() else wanted().bytes
        pace, renewals = Pace(longest=60.0), 0
        while True:
            url = self._place.identity.address.object(wanted().url, policy.policy.hosts)
            try:
                return await self._place.transfers.fetch(url, wanted(), target)
            except GatewayError as error:
                if error.reason == "REDIRECT" or renewals == RENEWALS:
                    raise
                self._say(f"{error}; trying again")
                await asyncio.sleep(pace.next())
                if error.reason == "EXPIRED":
                    renewals += 1
                    await self._renew()

    async def _renew(self) -> None:
        """Wait until the gateway sent the assignment again, with new addresses."""
        self._fresh.clear()
        self.stale = True
        self._ask_anew()
        await self._fresh.wait()

    async def _asked(self, policy: Loaded, verdict: Verdict, plan: Path) -> Answered:
        order, place = verdict.order, self._place
        request = {
            "do": order.kind,
            "seed": order.seed,
            "round": order.number,
            "client": place.identity.client,
            "share": verdict.share,
            "most": place.told_of(order.dataset, order.kind),
        }
        setting = Setting(
            plan.resolve(),
            verdict.data.resolve(),
            place.hidden(policy, verdict.data),
            verdict.rule.limits,
            verdict.signer.pem,
        )
        try:
            return await place.runner.ask(setting, request, self._folder / "weights", self._folder / "update")
        except RunnerFailed as error:
            place.store.note_mishap(order.plan, str(error))
            raise

    def _result(self, answered: Answered, verdict: Verdict, seconds: float) -> ReportMessage:
        """The report of what the runner answered and left.

        Raises:
            SiteError: it is none.
        """
        answer = answered.answer
        if isinstance(answer.get("error"), str):
            words = answer["error"].replace(str(verdict.data.resolve()), verdict.order.dataset)
            return self._failure(words, seconds)
        try:
            report = ReportMessage(
                assignment=self._assignment.id,
                update=answered.update,
                counts=answer.get("counts"),
                ranges=answer.get("ranges"),
                seconds=seconds,
                phases=self._phases,
                fetched=self._bytes,
            )
        except ValidationError as error:
            raise SiteError(f"the runner's answer cannot be told: {first_mistake(error)}") from error
        if sum(part is not None for part in (report.update, report.counts, report.ranges)) != 1:
            raise SiteError("the runner left neither an update nor counts nor ranges, or several of them")
        if (size := len(report.model_dump_json())) > LARGEST_MESSAGE:
            raise SiteError(
                f"the runner's answer has {size:,} bytes where a message has {LARGEST_MESSAGE:,} at most"
            )
        return report

    async def _upload(self, digest: str) -> str | None:
        """Hand in the update; the outcome where the round is over for this client.

        Raises:
            SiteError: the policy does not allow it any more, or the gateway names another place than it may.
        """
        place, file, pace = self._place, self._folder / "update", Pace(longest=60.0)
        question = UploadRequest(assignment=self._assignment.id, digest=digest, bytes=file.stat().st_size)
        answer: UploadPlace | Received | None = self._named_place()
        while True:
            self._say(f"uploading {question.bytes:,} bytes")
            policy = await self._policy()
            self._verdict(policy)
            if answer is None:
                answer = await place.line.ask(question, self._held.round)
            if isinstance(answer, Received):
                self._say(f"it is not wanted: {shown(answer.message, WORDS)}")
                return answer.outcome
            if answer.done:
                return None
            url = place.identity.address.object(answer.url, policy.policy.hosts)
            try:
                await place.transfers.upload(url, file, digest, answer, place.journal, self._held.round)
                return None
            except GatewayError as error:
                self._say(f"{error}; trying again")
                await asyncio.sleep(pace.next())
            answer = None

    def _named_place(self) -> UploadPlace | None:
        """The place that came with the assignment, the first time that it is used: it does not tell how much is there."""
        url, self._upload_url = self._upload_url, None
        return None if url is None else UploadPlace(assignment=self._assignment.id, url=url)

    def _failure(self, reason: str, seconds: float) -> ReportMessage:
        return ReportMessage(
            assignment=self._assignment.id,
            failure=shown(reason, WORDS),
            seconds=seconds,
            phases=self._phases,
            fetched=self._bytes,
        )

    def _say(self, text: str) -> None:
        log.info("round %s: %s", self._held.round, text)
