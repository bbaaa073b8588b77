"""What a step of a pipeline logs to the MLflow run that it joined.

Everything may be logged again: a record takes the place of the earlier one, a point that is there is left.
"""

import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fededge.documents import (
    Alone,
    Document,
    Evaluation,
    GateDecision,
    Measurement,
    Population,
    RoundRecord,
    StepRecord,
)
from fededge.lineage import Artifact
from fededge.metrics import OF_CLIENTS
from fededge.tracking.connection import translated
from fededge.tracking.dataset import dataset_input

if TYPE_CHECKING:
    from mlflow import MlflowClient


METRIC = "fededge.metric"
"""Tag of a run: in which metric its scores are."""
HELD_OUT = "held_out"
"""Prefix of metrics of the global model on held-out examples."""
MEASURED = ("score_loss", "bytes", "latency_ms_1", "latency_ms_500")


def held_out(tags: Mapping[str, str]) -> str:
    """Name of the metric with the scores on held-out examples, by the tags of a run; 0.1 set no such tag."""
    return f"{HELD_OUT}/{tags[METRIC]}" if METRIC in tags else "federated/accuracy"


class Step:
    """What a step may log.

    Args:
        client: of MLflow.
        run_id: MLflow's.
        name: of the step.
        run: id of the pipeline run.
    """

    def __init__(self, client: "MlflowClient", run_id: str, name: str, run: str) -> None:
        """Use `TrackedRun.step` instead."""
        self._client = client
        self._run_id = run_id
        self._run = run
        self.name = name
        self.started = datetime.now(UTC)
        self._metric = ""
        self._points: dict[str, set[tuple[int, float]]] = {}

    def record(self, name: str, document: Document) -> None:
        """Keep `document` as record `name`, in place of an earlier one."""
        with translated("write a record to"):
            self._client.log_text(self._run_id, document.to_bytes().decode(), f"records/{name}.json")

    @property
    def made(self) -> dict[str, str]:
        """What the metadata of an artifact that this step makes tell of it, for `reused`."""
        return {"step": self.name, "run": self._run}

    def reused(self, artifact: Artifact) -> bool:
        """Whether `artifact` was made in another run and came from Kubeflow's cache; then its step is recorded here.

        That step did not run, so what else it logs is its reader's to log again.
        """
        name, run = artifact.metadata.get("step"), artifact.metadata.get("run")
        if not name or not run or run == self._run:
            return False
        record = StepRecord(step=name, started=self.started, seconds=0.0, status="succeeded", reused=run)
        self.record(f"steps/{name}", record)
        return True

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics at round `step`; a point that is already there is not logged twice."""
        self._log(values, step, time.time())

    def metric(self, name: str) -> None:
        """Say in which metric scores are, so that readers find them; repeated, it says nothing new."""
        if self._metric != name:
            with translated("tag a run of"):
                self._client.set_tag(self._run_id, METRIC, name)
            self._metric = name

    def data(self, population: Population, source: str) -> None:
        """Log what the run learns from, also as MLflow's data set `source`: schema, counts and digest."""
        self.record("data", population)
        with translated("log a data set to"):
            self._client.log_inputs(self._run_id, datasets=[dataset_input(population, source)])

    def round(self, record: RoundRecord, metric: str) -> None:
        """Log a round, whose scores are in `metric`, at the time when it was committed."""
        self.metric(metric)
        values = {
            "train/loss": record.loss,
            f"train/{metric}": record.score,
            "round/cohort": len(record.cohort),
            "round/reported": len(record.reported),
            "round/seconds": record.seconds,
            "round/bytes_sent": record.bytes_sent,
            "round/bytes_received": record.bytes_received,
            "round/client_seconds": record.client_seconds,
            "round/coordinator_seconds": record.coordinator_seconds,
        }
        if record.cost is not None:
            values["round/cost"] = record.cost
        if record.held_out is not None:
            values |= {
                f"{HELD_OUT}/{metric}": record.held_out.score,
                f"{HELD_OUT}/loss": record.held_out.loss,
            }
        self._log(values, record.round, record.at)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Log an evaluation: the metrics on held-out examples, and lowest, middle and highest score of the clients."""
        scores = [client.score for client in evaluation.clients if client.examples]
        values: dict[str, float] = {"clients/failed": len(evaluation.failed)}
        values |= {f"{HELD_OUT}/{name}": value for name, value in evaluation.metrics.items()}
        beside = {OF_CLIENTS: evaluation.worst_tenth, "spread": evaluation.spread}
        values |= {f"clients/{name}": value for name, value in beside.items() if value is not None}
        if scores:
            values |= {
                f"clients/{evaluation.metric}_min": min(scores),
                f"clients/{evaluation.metric}_median": statistics.median(scores),
                f"clients/{evaluation.metric}_max": max(scores),
            }
        self.metrics(values, evaluation.round)

    def centralized(self, evaluation: Evaluation) -> None:
        """Log centralized training after its last pass."""
        for each in evaluation.passes:
            values = {f"centralized/{evaluation.metric}": each.score, "centralized/loss": each.loss}
            self.metrics(values, each.round)
        self.record("centralized", evaluation.model_copy(update={"errors": None}))

    def alone(self, alone: Alone, passes: int) -> None:
        """Log what clients reached without the others, after so many passes."""
        self.metrics({f"alone/{alone.metric}": alone.mean}, passes)
        self.record("alone", alone)

    def variant(self, measured: Measurement) -> None:
        """Log what a variant was measured at, as `variant/KIND/...`."""
        values: dict[str, float] = {name: getattr(measured, name) for name in MEASURED}
        values[measured.metric] = measured.score
        self.metrics({f"variant/{measured.kind}/{name}": value for name, value in values.items()}, 0)

    def gate(self, decision: GateDecision, step: int) -> None:
        """Log a decision after round `step`: whether it passed, and the figures behind it."""
        self.metrics({f"gate/{name}": value for name, value in decision.figures.items()}, step)

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
