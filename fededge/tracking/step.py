"""What a step of a pipeline logs to the MLflow run that it joined.

Everything may be logged again: a record takes the place of the earlier one, a point that is there is left.
"""

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fededge.documents import Document, Evaluation, GateDecision, Measurement, RoundRecord
from fededge.tracking.connection import translated

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Step:
    """What a step may log."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        """Use `TrackedRun.step` instead."""
        self._client = client
        self._run_id = run_id
        self._points: dict[str, set[tuple[int, float]]] = {}

    def record(self, name: str, document: Document) -> None:
        """Keep `document` as record `name`, in place of an earlier one."""
        with translated("write a record to"):
            self._client.log_text(self._run_id, document.to_bytes().decode(), f"records/{name}.json")

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics at round `step`; a point that is already there is not logged twice."""
        self._log(values, step, time.time())

    def round(self, record: RoundRecord) -> None:
        """Log the metrics of a round, at the time when it was committed."""
        values = {
            "train/loss": record.loss,
            "train/accuracy": record.accuracy,
            "round/cohort": len(record.cohort),
            "round/reported": len(record.reported),
            "round/seconds": record.seconds,
            "round/bytes_sent": record.bytes_sent,
            "round/bytes_received": record.bytes_received,
        }
        if record.score is not None:
            values |= {"federated/accuracy": record.score.accuracy, "federated/loss": record.score.loss}
        self._log(values, record.round, record.at)

    def clients(self, evaluation: Evaluation) -> None:
        """Log how the model does at the clients: the lowest, middle and highest accuracy among them."""
        accuracies = [client.accuracy for client in evaluation.clients if client.examples]
        values: dict[str, float] = {"clients/failed": len(evaluation.failed)}
        if accuracies:
            values |= {
                "clients/accuracy_min": min(accuracies),
                "clients/accuracy_median": statistics.median(accuracies),
                "clients/accuracy_max": max(accuracies),
            }
        self.metrics(values, evaluation.round)

    def variant(self, measured: Measurement) -> None:
        """Log what a variant was measured at, as `variant/KIND/...`."""
        names = ("accuracy", "accuracy_loss", "bytes", "latency_ms_1", "latency_ms_500")
        self.metrics({f"variant/{measured.kind}/{name}": getattr(measured, name) for name in names}, 0)

    def gate(self, decision: GateDecision, step: int) -> None:
        """Log a decision after round `step`: whether it passed, and the accuracies that were held against it."""
        values: dict[str, float] = {"gate/passed": decision.passed, "gate/accuracy": decision.accuracy}
        if decision.centralized is not None:
            values["gate/centralized"] = decision.centralized
        if decision.champion is not None and decision.champion.accuracy is not None:
            values["gate/champion"] = decision.champion.accuracy
        self.metrics(values, step)

    def _log(self, values: Mapping[str, float], step: int, at: float) -> None:
        from mlflow.entities import Metric

        with translated("log metrics to"):
            for name in values.keys() - self._points.keys():
                history = self._client.get_metric_history(self._run_id, name)
                self._points[name] = {(point.step, point.value) for point in history}
            new = {n: float(v) for n, v in values.items() if (step, float(v)) not in self._points[n]}
            points = [Metric(name, value, int(at * 1000), step) for name, value in new.items()]
            self._client.log_batch(self._run_id, metrics=points)
        for name, value in new.items():
            self._points[name].add((step, value))
