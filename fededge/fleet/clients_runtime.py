"""The clients of a fleet: selected, asked and heard by way of a gateway.

A round has an id at the gateway that follows from the run, its number and what it asks for. So a coordinator that was
killed finds its round again, with the cohort that it had and the reports that came meanwhile, and goes on with it. What
came of a round of training is told the gateway after the checkpoint was saved, and not before.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from fededge import archives, settings, storage
from fededge.client_reports import EvaluationReport, RangesReport, TrainingReport, Usage
from fededge.documents import ClientCounts, Plan, RoundRecord
from fededge.errors import DataError, GatewayError, IntegrityError, RoundError, TaskError
from fededge.fleet.allocation import shares
from fededge.fleet.census import counts_of
from fededge.fleet.gateway_client import GatewayClient
from fededge.fleet.selection.policy import Candidate
from fededge.protocol import (
    ClientInfo,
    CloseRequest,
    Kind,
    Order,
    Report,
    RoundRequest,
    RoundStatus,
    SelectionRequest,
)
from fededge.signing import SigningKey
from fededge.task import FederatedTask, FleetData
from fededge.weights import Weights, to_bytes

WAIT = 20.0
"""Seconds for which the gateway is asked to hold an answer back while there is no report."""
LOOK = 2.0
"""Seconds between two looks whether enough clients are there."""
PAUSE = 1.0
"""Seconds between two questions whether there are reports, at least."""
EVALUATORS = 1000
"""Clients that evaluate, where the task does not say how many."""
REASON = 500
"""Characters of a reason that a gateway takes."""


class GatewayClients:
    """See `fededge.learning.interfaces.ClientRuntime`, and `Selector` there; use it with `with`.

    Args:
        gateway: entered and ended with this.
        task: what is learned.
        run: id of the pipeline run.
        plan: folder of the exported plan.
        key: signs the orders that clients obey.
        update_bytes: the one size that an update of the model has.
        say: told in one line what is waited for.

    Raises:
        TaskError: the clients of the task are not a fleet's.
    """

    def __init__(
        self,
        gateway: GatewayClient,
        task: FederatedTask,
        run: str,
        plan: Path,
        key: SigningKey,
        update_bytes: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not isinstance(task.data, FleetData):
            raise TaskError(f"the clients of task {task.name} are simulated: no gateway reaches them")
        self._gateway = gateway
        self._task = task
        self._data = task.data
        self._run = run
        self._plan = plan
        self._document = Plan.read(plan / "plan.json")
        self._key = key
        self._update_bytes = update_bytes
        self._say = say
        self._plan_digest: str | None = None
        self._tenant: str | None = None
        self._known: dict[str, ClientInfo] = {}
        self._unopened: dict[tuple[Kind, int], str] = {}
        self._absent: dict[Kind, int] = {}
        self._unsettled: dict[str, Kind] = {}
        self._over: dict[str, RoundStatus] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-updates-")

    @classmethod
    def of(
        cls,
        task: FederatedTask,
        run: str,
        plan: Path,
        update_bytes: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> Self:
        """The clients of the gateway that the environment names, whose orders the release key signs.

        Raises:
            GatewayError: it names none.
            StorageError: there is no release key.
        """
        gateway = GatewayClient.from_settings(task.operation.retry_seconds)
        return cls(gateway, task, run, plan, SigningKey.for_releases(), update_bytes, say)

    def __enter__(self) -> Self:
        """See ClientRuntime."""
        self._gateway.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the gateway what came of rounds that were heard to their end; whatever else happened, they go on later."""
        try:
            if isinstance(error, RoundError | DataError):
                self._settle(CloseRequest(outcome="failed", reason=str(error)[:REASON]), set(self._unsettled))
            elif error is None:
                heard = {name for name, what in self._unsettled.items() if what != "train"}
                self._settle(CloseRequest(outcome="committed"), heard)
        except GatewayError as unsettled:
            if error is None:
                raise
            error.add_note(f"the gateway was not told: {unsettled}")
        finally:
            self._folder.cleanup()
            self._gateway.__exit__(kind, error, trace)

    def select(self, round_number: int, history: Sequence[RoundRecord]) -> list[ClientCounts]:
        """See Selector: the cohort of a round that is open already, else whom the gateway selects.

        While fewer are there than the quorum, it waits for more, for as long as a round may take.
        """
        cohort, operation = self._task.learning.cohort, self._task.operation
        fewest, most = operation.quorum or cohort.size, operation.round_deadline_seconds
        request = self._selection("train", round_number, cohort.asked, cohort.policy, cohort.weights)
        return self._chosen("train", request, fewest, most)

    def evaluators(self, round_number: int, most: int | None) -> list[ClientCounts]:
        """At most `most` clients, drawn at random, that evaluate the weights after `round_number`; None: EVALUATORS."""
        request = self._selection("evaluate", round_number, most or EVALUATORS, "uniform", {})
        return self._chosen("evaluate", request, 1, self._task.operation.evaluation_deadline_seconds)

    def train(
        self, weights: Weights, seed: int, round_number: int, cohort: Sequence[str], deadline_seconds: float
    ) -> Iterator[TrainingReport]:
        """See ClientRuntime."""
        for client, report in self._heard("train", weights, round_number, cohort, deadline_seconds):
            if isinstance(report, str) or report.update is None or report.url is None:
                yield TrainingReport(client, None, _failure(report, "an update"))
                continue
            file = Path(self._folder.name) / storage.digest(client.encode()).removeprefix("sha256:")
            try:
                self._fetch(report, round_number, file)
            except IntegrityError as error:
                yield TrainingReport(client, None, f"its update is refused: {error}")
                continue
            yield TrainingReport(client, file)
            file.unlink(missing_ok=True)

    def enough(self) -> Usage:
        """See ClientRuntime."""
        found = Usage()
        for round_id, kind in self._unsettled.items():
            if kind == "train":
                status = self._over.get(round_id) or self._gateway.close_round(round_id, CloseRequest())
                found = Usage(status.bytes_down, status.bytes_up, status.client_seconds)
        return found

    def committed(self, record: RoundRecord) -> None:
        """Tell the gateway that the checkpoint of a round is saved; told before, it says nothing new."""
        round_ids = {name for name, what in self._unsettled.items() if what == "train"}
        if not round_ids:
            round_id, status = self._standing("train", record.round)
            if status is None or status.outcome is not None:
                return
            self._unsettled[round_id] = "train"
            round_ids = {round_id}
        self._settle(CloseRequest(outcome="committed", losses=record.losses), round_ids)

    def evaluate(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[EvaluationReport]:
        """See ClientRuntime."""
        for client, report in self._heard("evaluate", weights, round_number, clients, deadline_seconds):
            counts = None if isinstance(report, str) else report.counts
            yield EvaluationReport(client, counts, None if counts else _failure(report, "counts"))

    def ranges(
        self, weights: Weights, round_number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[RangesReport]:
        """See ClientRuntime."""
        for client, report in self._heard("ranges", weights, round_number, clients, deadline_seconds):
            found = None if isinstance(report, str) else report.ranges
            yield RangesReport(client, found, None if found else _failure(report, "ranges"))

    def _selection(
        self, kind: Kind, number: int, size: int, policy: str, weights: dict[str, float]
    ) -> SelectionRequest:
        return SelectionRequest(
            task=self._task.name,
            dataset=self._data.dataset,
            framework=self._document.framework,
            schema_digest=self._document.example.form_digest,
            policy=policy,
            weights=weights,
            conditions=self._task.learning.cohort.conditions.for_kind(kind),
            size=size,
            seed=self._task.seed,
            number=number,
        )

    def _chosen(
        self, kind: Kind, request: SelectionRequest, fewest: int, seconds: float
    ) -> list[ClientCounts]:
        """The clients of a round, with what the registry says that they hold now.

        Args:
            kind: of the round.
            request: selects them, where the round is not open yet.
            fewest: clients that are waited for.
            seconds: for which they are.
        """
        round_id, status = self._standing(kind, request.number)
        if status is not None:
            found = self._gateway.clients_of(status.cohort)
        else:
            self._unopened[kind, request.number] = round_id
            found = self._selected(request, fewest, seconds)
        self._known = {client.client: client for client in found}
        return [counts_of(self._known[client], self._data.dataset) for client in sorted(self._known)]

    def _selected(self, request: SelectionRequest, fewest: int, seconds: float) -> list[ClientInfo]:
        """Whom the gateway selects, once `fewest` are there, or `seconds` are over."""
        end, told = time.monotonic() + seconds, False
        while True:
            result = self._gateway.select(request)
            if len(result.cohort) >= fewest or time.monotonic() > end:
                known = result.clients
                return self._gateway.clients_of(result.cohort) if known is None else known
            if not told:
                self._say(f"{len(result.cohort)} of {fewest} clients are there: waiting for more")
                told = True
            time.sleep(LOOK)

    def _standing(self, kind: Kind, number: int) -> tuple[str, RoundStatus | None]:
        """The id of a round, and how it stands; one that failed stays as it is, and is tried anew under another id.

        Rounds of a kind are opened one after another: where one was not there, none after it was opened but here.
        """
        for attempt in count(1):
            round_id = f"{self._run}-{number}-{kind}{f'-{attempt}' if attempt > 1 else ''}"
            if number > self._absent.get(kind, number):
                return round_id, None
            try:
                status = self._gateway.round(round_id)
            except GatewayError as error:
                if error.status != 404:
                    raise
                self._absent[kind] = number
                return round_id, None
            if status.outcome != "failed":
                return round_id, status
        raise AssertionError("count ends")

    def _heard(
        self, kind: Kind, weights: Weights, number: int, clients: Sequence[str], deadline_seconds: float
    ) -> Iterator[tuple[str, Report | str]]:
        """What each of `clients` reported in a round, as it comes, or at its end why it did not."""
        unopened = self._unopened.pop((kind, number), None)
        round_id, status = (unopened, None) if unopened else self._standing(kind, number)
        if status is None:
            request = partial(self._request, round_id, kind, weights, number, clients, deadline_seconds)
            status = self._open(round_id, request)
        self._unsettled[round_id] = kind
        waiting = set(clients) & set(status.cohort)
        after, more = 0, True
        while waiting and more:
            asked = time.monotonic()
            found = self._gateway.reports(round_id, after, WAIT)
            more = found.open or bool(found.items)
            if (
                found.open and not found.items
            ):  # a gateway that ends answers at once: not to ask it all the time
                time.sleep(max(0.0, asked + PAUSE - time.monotonic()))
            if found.status is not None:
                self._over[round_id] = found.status
            for report in found.items:
                after = report.ordinal
                if report.client in waiting:
                    waiting.remove(report.client)
                    yield report.client, report
        late = sorted(set(clients) - set(status.cohort) | waiting)
        failures = (self._over.get(round_id) or self._gateway.round(round_id)).failures if late else {}
        for client in late:
            yield client, failures.get(client, f"no report within {deadline_seconds:g} s")

    def _open(self, round_id: str, request: Callable[[], RoundRequest]) -> RoundStatus:
        """A round at the gateway, whose plan lies there since an earlier one, unless it was deleted meanwhile."""
        try:
            return self._gateway.open_round(round_id, request())
        except GatewayError as error:
            if error.reason != "NO_BLOB":
                raise
            self._plan_digest = None
            return self._gateway.open_round(round_id, request())

    def _request(
        self,
        round_id: str,
        kind: Kind,
        weights: Weights,
        number: int,
        clients: Sequence[str],
        deadline_seconds: float,
    ) -> RoundRequest:
        """A round with its signed order, once plan and weights lie at the gateway."""
        if self._tenant is None:
            self._tenant = self._gateway.caller().tenant
        if self._plan_digest is None:
            self._plan_digest = self._gateway.store(archives.packed(self._plan))
        weights_digest = self._gateway.store(to_bytes(weights))
        learning, training = self._task.learning, kind == "train"
        fewest = {
            "train": self._task.operation.quorum or learning.cohort.size,
            "evaluate": len(clients),  # there is no aggregate: each client's score is told beside its name
            "ranges": self._task.privacy.min_clients,
        }
        order = Order(
            tenant=self._tenant,
            task=self._task.name,
            identity=self._task.identity,
            owner=settings.user()[:200],
            round_id=round_id,
            kind=kind,
            dataset=self._data.dataset,
            number=number,
            seed=self._task.seed,
            cohort=len(clients),
            min_clients=fewest[kind],
            framework=self._document.framework,
            code=any(self._plan.glob("*.zip")),
            plan=self._plan_digest,
            weights=weights_digest,
            conditions=learning.cohort.conditions.for_kind(kind),
            issued=time.time(),
        )
        allocated: dict[str, float] = {}
        if training and learning.cohort.allocation == "deadline":
            measured = (candidate(self._known[client], self._data.dataset) for client in clients)
            allocated = shares(measured, deadline_seconds)
        return RoundRequest(
            task=self._task.name,
            kind=kind,
            number=number,
            dataset=self._data.dataset,
            order=order.signed(self._key),
            plan=self._plan_digest,
            weights=weights_digest,
            cohort=sorted(clients),
            shares=allocated,
            seconds=deadline_seconds,
            update_bytes=self._update_bytes if training else None,
        )

    def _fetch(self, report: Report, number: int, file: Path) -> None:
        """Fetch an update into `file`; where its URL is too old, by a new one.

        Raises:
            IntegrityError: they are other bytes than were reported, or not kept any more.
            GatewayError: the gateway cannot be asked.
        """
        assert report.update
        url = report.url or ""
        for last in (False, True):
            try:
                return self._gateway.fetch(url, report.update, self._update_bytes, file)
            except GatewayError as error:
                if not 400 <= error.status < 500:
                    raise
                if last:
                    raise IntegrityError(str(error)) from error
            round_id, _ = self._standing("train", number)
            (again, *_) = self._gateway.reports(round_id, report.ordinal - 1, 0.0).items
            url = again.url or ""
        raise AssertionError("the last try returns or raises")

    def _settle(self, request: CloseRequest, round_ids: set[str]) -> None:
        for round_id in sorted(round_ids):
            self._gateway.close_round(round_id, request)
            del self._unsettled[round_id]
            self._over.pop(round_id, None)


def candidate(client: ClientInfo, dataset: str) -> Candidate:
    """A client of the registry as selection and allocation know it."""
    return Candidate(
        id=client.client, train=counts_of(client, dataset).train, region=client.region, speed=client.speed
    )


def _failure(report: Report | str, wanted: str) -> str:
    if isinstance(report, str):
        return report
    return report.failure or f"it reported something else than {wanted}"
