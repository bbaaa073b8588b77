"""One MLflow run for each pipeline run: parameters, records, metrics by round and step times.

Every step of a pipeline is a process of its own and joins the same MLflow run, found by its tag
`fededge.run`. Everything logged here may be logged again: a retried step changes nothing.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fededge import settings
from fededge.documents import Ending, StepRecord
from fededge.errors import TrackingError
from fededge.processes import ended_by_exception
from fededge.task import FederatedTask
from fededge.tracking.connection import connect, exclusive, public_uri, sqlite_file, translated
from fededge.tracking.description import COMMIT, IDENTITY, TASK, describe
from fededge.tracking.step import METRIC, Step, held_out

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN = "fededge.run"
PARENT = "mlflow.parentRunId"
JOINED = "fededge.joined"
ENDING = "ending"
ENDINGS = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "CANCELED": "KILLED"}
"""MLflow's words for how a pipeline ends."""


class TrackedRun:
    """The MLflow run of a pipeline run."""

    def __init__(self, client: "MlflowClient", run: "Run") -> None:
        """Use `join` instead: it finds or creates the run."""
        self._client = client
        self._run = run
        self.run_id: str = run.info.run_id

    @classmethod
    def join(cls, run: str, task: FederatedTask, *, described: bool = True) -> "TrackedRun":
        """The MLflow run that tracks pipeline run `run`.

        Found by its tag; else the run that MLFLOW_RUN_ID names (or its outermost parent: Kubeflow
        Pipelines gives each step a nested run) is joined; else one is created in the experiment
        named after the task. A run goes on with the same task, or with one that differs in its
        operation or delivery alone: then the task file and what parameters MLflow lacks are logged
        anew; MLflow keeps the first value of a parameter that changed. One that had ended runs again.

        Args:
            run: id of the pipeline run; "" where FEDEDGE_RUN tells it.
            task: that the run learns.
            described: whether MLflow is told of the task; a step that is given what it learns alone leaves that to the
                steps after it.

        Raises:
            TrackingError: MLflow cannot be reached or refuses; `run` was tracked for another task, or nothing tells it.
        """
        run = run or settings.run() or ""
        if not run:
            raise TrackingError(
                "the step is not told the id of its run: give it as `run`, or set FEDEDGE_RUN"
            )
        with translated("join a run of"), exclusive():
            client = connect()
            found = _tagged(client, run) or _injected(client, run) or _created(client, run, task)
            _refuse_other(found, run, task)
            if described and found.data.tags.get(TASK) != task.digest:
                describe(client, found, task)
            if JOINED not in found.data.tags and found.info.status != "RUNNING":
                client.update_run(found.info.run_id, "RUNNING")
            return cls(client, client.get_run(found.info.run_id))

    @classmethod
    def find(cls, run: str, task: FederatedTask | None = None) -> "TrackedRun":
        """The MLflow run that tracks pipeline run `run`, which is there already: nothing is created.

        Args:
            run: id of the pipeline run.
            task: that it must have learned, if that matters.

        Raises:
            TrackingError: MLflow cannot be reached, or has no such run; `run` was tracked for another task.
        """
        database = sqlite_file()
        quotable = "'" not in run  # MLflow's filters have no way to escape it
        if quotable and (database is None or database.is_file()):
            with translated("find a run of"):
                client = connect()
                if found := _tagged(client, run):
                    if task is not None:
                        _refuse_other(found, run, task)
                    return cls(client, found)
        raise TrackingError(
            f"MLflow at {public_uri()} has no run of pipeline run {run}: set MLFLOW_TRACKING_URI, or FEDEDGE_HOME, "
            "to what it was when that run was started"
        )

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
    def parameters(self) -> dict[str, str]:
        """The task's parameters, as they were logged."""
        return dict(self._run.data.params)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric when the run was joined or found."""
        return dict(self._run.data.metrics)

    @property
    def metric(self) -> str:
        """In which metric the run's scores are."""
        return str(self._run.data.tags.get(METRIC, "accuracy"))

    @property
    def held_out(self) -> list[tuple[int, float]]:
        """The scores on held-out examples by round; errors as for `points`."""
        return self.points(held_out(self._run.data.tags))

    def points(self, metric: str) -> list[tuple[int, float]]:
        """The values of a metric by round, each round's last.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        with translated("read metrics of"):
            history = self._client.get_metric_history(self.run_id, metric)
        return sorted({point.step: point.value for point in history}.items())

    @property
    def git_commit(self) -> str:
        """Commit of the code that started the run."""
        return str(self._run.data.tags.get(COMMIT, "unknown"))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Track one step: its start, seconds and outcome, as record `steps/<name>`."""
        begun = time.monotonic()
        step = Step(self._client, self.run_id, name, self._run.data.tags[RUN])
        try:
            with ended_by_exception():
                yield step
        except BaseException as error:
            message = " ".join(str(error).split()) or type(error).__name__
            seconds = time.monotonic() - begun
            failed = StepRecord(
                step=name, started=step.started, seconds=seconds, status="failed", error=message
            )
            try:
                step.record(f"steps/{name}", failed)
            except TrackingError as untracked:
                error.add_note(f"not tracked: {untracked}")
            raise
        seconds = time.monotonic() - begun
        step.record(
            f"steps/{name}",
            StepRecord(step=name, started=step.started, seconds=seconds, status="succeeded"),
        )

    def records(self) -> dict[str, Any]:
        """All records so far by name; step outcomes under `steps/<step>`. One that is no JSON is None.

        Raises:
            TrackingError: MLflow cannot be reached.
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
            return {name: _parsed(file.read_bytes()) for name, file in files.items()}

    def keep(self, folder: Path, under: str) -> str:
        """Copy `folder` into the run's artifacts as `under`; its artifact URI.

        Raises:
            TrackingError: MLflow cannot be reached or the store cannot be written.
        """
        with translated("write artifacts to"):
            self._client.log_artifacts(self.run_id, str(folder), under)
        return f"{self.artifact_uri.rstrip('/')}/{under}"

    def end(self, ending: Ending) -> None:
        """Keep how the pipeline ended as record `ending`, and finish the run.

        A run that was joined by MLFLOW_RUN_ID is only tagged: whoever started it ends it.
        """
        Step(self._client, self.run_id, ENDING, self._run.data.tags[RUN]).record(ENDING, ending)
        with translated("finish a run of"):
            self._client.set_tag(self.run_id, "fededge.status", ending.state)
            if JOINED not in self._run.data.tags:
                self._client.set_terminated(self.run_id, ENDINGS[ending.state])


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _tagged(client: "MlflowClient", run: str) -> "Run | None":
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if not experiments:
        return None
    wanted = f"tags.`{RUN}` = '{run}'"
    runs = client.search_runs(experiments, wanted, order_by=["attributes.start_time ASC"])
    return runs[0] if runs else None


def _refuse_other(found: "Run", run: str, task: FederatedTask) -> None:
    identity = found.data.tags.get(IDENTITY, task.identity)
    if identity != task.identity:
        raise TrackingError(
            f"pipeline run {run} learns task {identity}, not {task.identity}: a change of what is "
            "learned needs a new run (`fededge run --fresh`)"
        )


def _injected(client: "MlflowClient", run: str) -> "Run | None":
    from mlflow.exceptions import MlflowException

    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        raise TrackingError(
            f"MLFLOW_RUN_ID {run_id} names no run of MLflow at {public_uri()}: {error.message} Unset it, or name "
            "one that exists"
        ) from error
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
    created = client.create_run(experiment(client, task.name), tags=tags, run_name=run)
    first = _tagged(client, run)
    if first is None or first.info.run_id == created.info.run_id:
        return created
    client.delete_run(created.info.run_id)  # two steps came first at once: both go on in the earlier
    return first


def experiment(client: "MlflowClient", name: str) -> str:
    """Id of the experiment `name`, which is made where it is missing; without a server its artifacts are in the home.

    Raises:
        TrackingError: it is deleted.
    """
    from mlflow.exceptions import MlflowException

    location = (settings.home() / "mlartifacts" / name).as_uri() if sqlite_file() else None
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another step made it just now
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"MLflow experiment {name} is deleted: restore it (mlflow experiments restore -x "
            f"{found.experiment_id}) or rename the task"
        )
    return str(found.experiment_id)
