"""One MLflow run for each pipeline run: parameters, records, metrics by round and step times.

Every step of a pipeline is a process of its own and joins the same MLflow run, found by its tag
`fededge.run`. Everything logged here may be logged again: a retried step changes nothing.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fededge import settings
from fededge.errors import TrackingError
from fededge.processes import ended_by_exception
from fededge.task import FederatedTask
from fededge.tracking.connection import connect, exclusive, public_uri, sqlite_file, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN = "fededge.run"
TASK = "fededge.task_digest"
COMMIT = "mlflow.source.git.commit"
PARENT = "mlflow.parentRunId"
JOINED = "fededge.joined"
LONGEST = 6000  # characters of a parameter that MLflow keeps
MOST = 100  # parameters in one request


class TrackedRun:
    """The MLflow run of a pipeline run."""

    def __init__(self, client: "MlflowClient", run: "Run") -> None:
        """Use `join` instead: it finds or creates the run."""
        self._client = client
        self._run = run
        self._points: dict[str, set[tuple[int, float]]] = {}
        self.run_id: str = run.info.run_id

    @classmethod
    def join(cls, run: str, task: FederatedTask) -> "TrackedRun":
        """The MLflow run that tracks pipeline run `run`.

        Found by its tag; else the run that MLFLOW_RUN_ID names (or its outermost parent: Kubeflow
        Pipelines gives each step a nested run) is joined; else one is created in the experiment
        named after the task.

        Raises:
            TrackingError: MLflow cannot be reached or refuses; `run` was tracked for another task.
        """
        with translated("join a run of"), exclusive():
            client = connect()
            found = _tagged(client, run) or _injected(client, run) or _created(client, run, task)
            described = found.data.tags.get(TASK)
            if described is None:
                _describe(client, found.info.run_id, task)
            elif described != task.digest:
                raise TrackingError(
                    f"pipeline run {run} was started with task {described}, not {task.digest}: "
                    "start a new run for a changed task"
                )
            return cls(client, client.get_run(found.info.run_id))

    @property
    def url(self) -> str:
        """Where to look at the run: its page on the server, or the command that shows a local store."""
        experiment = self._run.info.experiment_id
        if public_uri().startswith("http"):
            return f"{public_uri().rstrip('/')}/#/experiments/{experiment}/runs/{self.run_id}"
        return f"mlflow ui --backend-store-uri {public_uri()}"

    @property
    def artifact_uri(self) -> str:
        """Root of the run's artifacts."""
        return str(self._run.info.artifact_uri)

    @property
    def git_commit(self) -> str:
        """Commit of the code that started the run."""
        return str(self._run.data.tags.get(COMMIT, "unknown"))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator["Step"]:
        """Track one step: its start, seconds and outcome, as record `steps/<name>`."""
        outcome = {"step": name, "started": datetime.now(UTC).isoformat(timespec="seconds")}
        begun = time.monotonic()
        try:
            with ended_by_exception():
                yield Step(self)
        except BaseException as error:
            message = " ".join(str(error).split()) or type(error).__name__
            failed = {"seconds": time.monotonic() - begun, "status": "failed", "error": message}
            try:
                self._record(f"steps/{name}", outcome | failed)
            except TrackingError as untracked:
                error.add_note(f"not tracked: {untracked}")
            raise
        done = {"seconds": time.monotonic() - begun, "status": "succeeded", "error": None}
        self._record(f"steps/{name}", outcome | done)

    def records(self) -> dict[str, Any]:
        """All records so far by name; step outcomes under `steps/<step>`.

        Raises:
            TrackingError: MLflow cannot be reached, or a record is damaged.
        """
        from mlflow.artifacts import download_artifacts

        with translated("read the records of"), tempfile.TemporaryDirectory() as folder:
            if not self._client.list_artifacts(self.run_id, "records"):
                return {}
            root = Path(
                download_artifacts(
                    run_id=self.run_id,
                    artifact_path="records",
                    dst_path=folder,
                    tracking_uri=settings.tracking_uri(),
                )
            )
            files = {f.relative_to(root).with_suffix("").as_posix(): f for f in sorted(root.rglob("*.json"))}
            try:
                return {name: json.loads(file.read_bytes()) for name, file in files.items()}
            except ValueError as error:
                raise TrackingError(
                    f"a record of MLflow run {self.run_id} is damaged: {error}. Run that step again"
                ) from error

    def keep(self, folder: Path, under: str) -> str:
        """Copy `folder` into the run's artifacts as `under`; its artifact URI.

        Raises:
            TrackingError: MLflow cannot be reached or the store cannot be written.
        """
        with translated("write artifacts to"):
            self._client.log_artifacts(self.run_id, str(folder), under)
        return f"{self.artifact_uri.rstrip('/')}/{under}"

    def status(self, text: str) -> None:
        """Finish the run with the pipeline's final state (SUCCEEDED, FAILED, CANCELED ...).

        A run that was joined by MLFLOW_RUN_ID is only tagged: whoever started it ends it.
        """
        endings = {"SUCCEEDED": "FINISHED", "CANCELED": "KILLED", "CANCELLED": "KILLED"}
        with translated("finish a run of"):
            self._client.set_tag(self.run_id, "fededge.status", text)
            if JOINED not in self._run.data.tags:
                self._client.set_terminated(self.run_id, endings.get(text.upper(), "FAILED"))

    def _record(self, name: str, content: Any) -> None:
        text = json.dumps(content, indent=1, default=lambda value: value.tolist())
        with translated("write a record to"):
            self._client.log_text(self.run_id, text, f"records/{name}.json")
            if isinstance(content, Mapping) and isinstance(content.get("digest"), str):
                self._client.set_tag(self.run_id, f"fededge.digest.{name}", content["digest"])

    def _log(self, values: Mapping[str, float], step: int, at: float) -> None:
        from mlflow.entities import Metric

        with translated("log metrics to"):
            for name in values.keys() - self._points.keys():
                history = self._client.get_metric_history(self.run_id, name)
                self._points[name] = {(point.step, point.value) for point in history}
            new = {n: float(v) for n, v in values.items() if (step, float(v)) not in self._points[n]}
            points = [Metric(name, value, int(at * 1000), step) for name, value in new.items()]
            self._client.log_batch(self.run_id, metrics=points)
        for name, value in new.items():
            self._points[name].add((step, value))


class Step:
    """What a step may log."""

    def __init__(self, run: TrackedRun) -> None:
        """Use `TrackedRun.step` instead."""
        self._tracked = run

    def record(self, name: str, content: Any) -> None:
        """Keep JSON `content` as record `name`, in place of an earlier one.

        Its "digest", where it has one, also becomes the tag `fededge.digest.<name>`.
        """
        self._tracked._record(name, content)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics at round `step`; a point that is already there is not logged twice."""
        self._tracked._log(values, step, time.time())

    def round(self, record: Mapping[str, Any]) -> None:
        """Log a round's training metrics, at the time (`at`, Unix seconds) when it was made."""
        measured = {f"train/{name}": record.get(name) for name in ("loss", "accuracy")}
        values = {name: value for name, value in measured.items() if value is not None}
        self._tracked._log(values, record["round"], record["at"])


def parameters(task: FederatedTask) -> dict[str, str]:
    """The task as flat MLflow parameters: `learning.client.epochs`, `variants.int8.max_bytes` ..."""
    return {name: value[:LONGEST] for name, value in _flat("", task.model_dump(mode="json"))}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        value = {item.get("kind") or item["name"]: item for item in value}
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), child)
    elif value is not None:
        yield prefix, str(value)


def _tagged(client: "MlflowClient", run: str) -> "Run | None":
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if not experiments:
        return None
    wanted = f"tags.`{RUN}` = '{run}'"
    runs = client.search_runs(experiments, wanted, order_by=["attributes.start_time ASC"])
    return runs[0] if runs else None


def _injected(client: "MlflowClient", run: str) -> "Run | None":
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    found = client.get_run(run_id)
    while parent := found.data.tags.get(PARENT):
        found = client.get_run(parent)
    tracked = found.data.tags.get(RUN)
    if tracked not in (None, run):
        raise TrackingError(
            f"MLFLOW_RUN_ID {run_id} already tracks pipeline run {tracked}, not {run}: unset it, or "
            "name a new MLflow run"
        )
    client.set_tag(found.info.run_id, JOINED, "true")
    client.set_tag(found.info.run_id, RUN, run)
    return found


def _created(client: "MlflowClient", run: str, task: FederatedTask) -> "Run":
    tags = {RUN: run, "mlflow.source.name": "fededge", "mlflow.source.type": "JOB"}
    created = client.create_run(_experiment(client, task.name), tags=tags, run_name=run)
    first = _tagged(client, run)
    if first is None or first.info.run_id == created.info.run_id:
        return created
    client.delete_run(created.info.run_id)  # two steps came first at once: both go on in the earlier
    return first


def _experiment(client: "MlflowClient", name: str) -> str:
    from mlflow.exceptions import MlflowException

    location = (settings.home() / "mlartifacts" / name).as_uri() if sqlite_file() else None
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another step made it just now
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"MLflow experiment {name} is deleted: restore it (mlflow experiments restore -x "
            f"{experiment.experiment_id}) or rename the task"
        )
    return str(experiment.experiment_id)


def _describe(client: "MlflowClient", run_id: str, task: FederatedTask) -> None:
    """Parameters, task file and commit; the task digest comes last and says that all are there."""
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in parameters(task).items()]
    for start in range(0, len(params), MOST):
        client.log_batch(run_id, params=params[start : start + MOST])
    document = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False)
    client.log_text(run_id, document, "task.yaml")
    client.set_tag(run_id, COMMIT, settings.git_commit())
    client.set_tag(run_id, TASK, task.digest)
