"""The federated engine: clients run the plan where they are, TFF aggregates what they hand in."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from fededge import metrics, storage
from fededge.client_reports import TrainingReport
from fededge.documents import ClientCounts, Plan
from fededge.errors import QuorumError, StorageError, UpdateError
from fededge.learning.interfaces import ClientRuntime, RoundResult, ServerState
from fededge.learning.tff.aggregation import MeanAggregator
from fededge.learning.tff.worker import Worker
from fededge.task import Learning, Operation
from fededge.update import Update, UpdateFormat
from fededge.weights import Weights


class FederatedEngine:
    """Federated averaging (McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
    Decentralized Data, Algorithm 1) over the clients that `runtime` reaches.

    Args:
        plan: what clients execute.
        learning: the algorithm.
        operation: quorum, deadline and the time limit of the TFF worker.
        seed: of the task.
        runtime: entered and ended with the engine.
        on_report: told of each report as it arrives: client, and why it does not count or None.
    """

    def __init__(
        self,
        plan: Plan,
        learning: Learning,
        operation: Operation,
        seed: int,
        runtime: ClientRuntime,
        on_report: Callable[[str, str | None], None] = lambda client, failure: None,
    ) -> None:
        self._learning = learning
        self._operation = operation
        self._seed = seed
        self._runtime = runtime
        self._on_report = on_report
        self._format = UpdateFormat.of(plan)
        self._statistics = {variable.name for variable in plan.variables if variable.statistic}
        self._worker = Worker(operation.worker_timeout_seconds)

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="fededge-updates-")
        self._runtime.__enter__()
        self._worker.__enter__()
        self._aggregator = MeanAggregator(self._format, self._statistics, self._learning.server, self._worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runtime.__exit__(kind, error, trace)
        self._worker.close()
        self._folder.cleanup()

    def initialize(self) -> ServerState:
        """See Engine."""
        return self._aggregator.initialize()

    def next(
        self, weights: Weights, server: ServerState, round_number: int, cohort: Sequence[ClientCounts]
    ) -> RoundResult:
        """See Engine. Once as many reports count as the cohort has seats, the round waits for no more."""
        seats = self._learning.cohort.size
        quorum = self._operation.quorum or seats
        held = {client.id: client.train for client in cohort}
        if len(held) < quorum:
            raise QuorumError(
                f"round {round_number} has only {len(held)} clients where the quorum is {quorum}: start more "
                "clients or lower operation.quorum, then run again"
            )
        accepted: dict[str, Update] = {}
        failed: dict[str, str] = {}
        reports = self._runtime.train(
            weights, self._seed, round_number, sorted(held), self._operation.round_deadline_seconds
        )
        for report in reports:
            try:
                accepted[report.client] = self._accept(report, held[report.client])
            except (UpdateError, StorageError) as error:
                failed[report.client] = str(error)
            self._on_report(report.client, failed.get(report.client))
            if len(accepted) == seats or len(held) - len(failed) < quorum:
                break
        usage = self._runtime.enough()
        if len(accepted) < quorum:
            reasons = "; ".join(f"{client}: {reason}" for client, reason in sorted(failed.items()))
            raise QuorumError(
                f"round {round_number} has {len(accepted)} usable reports of {len(held)} where the quorum is "
                f"{quorum} ({reasons}). Fix these clients or lower operation.quorum, then run again"
            )
        clients = sorted(accepted)
        files = [str(self._file(client)) for client in clients]
        next_server, next_weights, _ = self._aggregator.next(server, weights, files)
        for client in clients:
            self._file(client).unlink()
        examples = sum(accepted[client].examples for client in clients)
        names = metrics.SUMS[self._format.kind]
        sums = {name: sum(accepted[client].sums[name] for client in clients) for name in names}
        return RoundResult(
            weights=next_weights,
            server=next_server,
            reported=clients,
            failed=failed,
            examples=examples,
            loss=sum(accepted[client].loss_sum for client in clients) / examples,
            score=metrics.score(self._format.kind, examples, sums),
            losses={client: accepted[client].loss_sum / accepted[client].examples for client in clients},
            spare=sorted(held.keys() - accepted.keys() - failed.keys()),
            usage=usage,
        )

    def _accept(self, report: TrainingReport, held: int) -> Update:
        """The screened update of a report without its delta, which stays in a file of the engine's own.

        Raises:
            UpdateError, StorageError: there is none, or it is not to be used.
        """
        if report.update is None:
            raise UpdateError(report.failure or "no report")
        data = storage.read(str(report.update), self._format.size)
        update = self._format.screen(
            data, held * self._learning.client.epochs, self._learning.max_update_norm
        )
        storage.write(str(self._file(report.client)), data, durable=False)
        return replace(update, delta={})

    def _file(self, client: str) -> Path:
        return Path(self._folder.name) / storage.digest(client.encode()).removeprefix("sha256:")
