"""Kubeflow Pipelines by the kfp SDK's client: upload, run, schedule, list.

Configured by the SDK's own environment variables:

    KF_PIPELINES_ENDPOINT        URL of the API (or of the Kubeflow gateway)
    KF_PIPELINES_UI_ENDPOINT     URL of the UI, where it differs
    KFP_NAMESPACE                namespace of a multi-user installation
    KFP_EXISTING_TOKEN           bearer token
    KF_PIPELINES_SA_TOKEN_PATH   file with a service account's token, read again when it changes
"""

import contextlib
import io
import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
import kfp_server_api
import urllib3
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from fededge.errors import KubeflowError
from fededge.storage import digest
from fededge.task import FederatedTask
from pipelines.cluster_runs import ClusterRun, pipeline_name, read

PATIENCE = 5.0
"""Seconds to wait for the API to accept a connection."""
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
MOST, PAGES = 100, 10
"""Runs in an answer, and how many answers are looked through for FedEdge's runs."""


@dataclass(frozen=True)
class Submitted:
    """A run or recurring run on Kubeflow, the page that shows it, and the version that it runs."""

    id: str
    url: str
    version: str


@dataclass(frozen=True)
class Uploaded:
    """A version of an uploaded pipeline and the page that shows it."""

    pipeline_id: str
    version_id: str
    version: str
    url: str
    new: bool


class Kubeflow:
    """A connection to Kubeflow Pipelines.

    Raises:
        KubeflowError: no endpoint is configured, or it does not answer.
    """

    def __init__(self) -> None:
        host = os.environ.get("KF_PIPELINES_ENDPOINT")
        if not host and "KUBERNETES_SERVICE_HOST" in os.environ:
            host = IN_CLUSTER
        if not host:
            raise KubeflowError(
                "no Kubeflow Pipelines endpoint is configured: set KF_PIPELINES_ENDPOINT, for instance to "
                "http://localhost:8080 after kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
            )
        self.host = (host if "://" in host else f"https://{host}").rstrip("/")
        self._ui = (os.environ.get("KF_PIPELINES_UI_ENDPOINT") or self.host).rstrip("/")
        _reach(self.host)
        by_file = "KF_PIPELINES_SA_TOKEN_PATH" in os.environ
        with self._asking("connect to"):
            self._client = _Client(
                host=self.host,
                namespace=namespace(),
                existing_token=os.environ.get("KFP_EXISTING_TOKEN"),
                credentials=ServiceAccountTokenVolumeCredentials() if by_file else None,
            )

    def upload(self, package: Path, name: str) -> Uploaded:
        """Upload a compiled pipeline as a version of the pipeline `name`; the same bytes only once.

        Raises:
            KubeflowError: the API refused.
        """
        version = digest(package.read_bytes()).removeprefix("sha256:")[:12]
        with self._asking(f"upload {name} to"):
            namespace = os.environ.get("KFP_NAMESPACE")
            known = self._client.list_pipelines(
                filter=_equals("display_name", name), namespace=namespace
            ).pipelines
            pipeline = (
                known[0]
                if known
                else self._client.upload_pipeline(str(package), pipeline_name=name, namespace=namespace)
            )
            pipeline_id, new = pipeline.pipeline_id, False
            wanted = _equals("display_name", version)
            found = self._client.list_pipeline_versions(pipeline_id, filter=wanted).pipeline_versions
            if found:
                version_id = found[0].pipeline_version_id
            else:
                new = True
                version_id = self._client.upload_pipeline_version(
                    str(package), pipeline_version_name=version, pipeline_id=pipeline_id
                ).pipeline_version_id
        url = f"{self._ui}/#/pipelines/details/{pipeline_id}/version/{version_id}"
        return Uploaded(pipeline_id, version_id, version, url, new)

    @property
    def multi_user(self) -> bool:
        """Whether runs are in namespaces of their own (profiles)."""
        with self._asking("ask"):
            return bool(self._client.get_kfp_healthz().multi_user)

    @property
    def version(self) -> str | None:
        """Of the server; None where it does not tell, as one that is built by hand."""
        with self._asking("ask"):
            told = self._client.told_of_itself().get("tag_name")
        return str(told) if told and told != "unknown" else None

    def run(self, package: Path, task: FederatedTask, pipeline: str = "", name: str = "") -> Submitted:
        """Start a run of a compiled pipeline, as a version of a pipeline, in the experiment named after the task.

        Args:
            package: the compiled pipeline.
            task: its task.
            pipeline: name of the pipeline; by default that of the task.
            name: of the run; by default made of task, version and time.

        Raises:
            KubeflowError: the API refused.
        """
        uploaded = self.upload(package, pipeline or pipeline_name(task.name))
        with self._asking(f"run {task.name} on"):
            run = self._client.run_pipeline(
                self._experiment(task),
                job_name=name or f"{task.name} {uploaded.version} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
                pipeline_id=uploaded.pipeline_id,
                version_id=uploaded.version_id,
                params={"task": task.to_json()},
            )
        return Submitted(run.run_id, self.page(run.run_id), uploaded.version)

    def named(self, name: str) -> str | None:
        """Id of the run of this name; None where there is none.

        Raises:
            KubeflowError: the API refused.
        """
        with self._asking("list the runs of"):
            found = self._client.list_runs(
                filter=_equals("display_name", name), namespace=os.environ.get("KFP_NAMESPACE")
            ).runs
        return found[0].run_id if found else None

    def page(self, run_id: str) -> str:
        """The page that shows a run."""
        return f"{self._ui}/#/runs/details/{run_id}"

    def schedule(
        self, package: Path, task: FederatedTask, *, cron: str | None = None, seconds: int | None = None
    ) -> Submitted:
        """Run a compiled pipeline again and again, one run at a time and without catching up.

        Args:
            package: the compiled pipeline; it is uploaded, so that the runs refer to its version.
            task: its task.
            cron: six fields, seconds first; or
            seconds: between two runs.

        Raises:
            KubeflowError: the API refused.
        """
        uploaded = self.upload(package, pipeline_name(task.name))
        with self._asking(f"schedule {task.name} on"):
            recurring = self._client.create_recurring_run(
                self._experiment(task),
                job_name=f"{task.name} {cron or f'every {seconds} s'}",
                cron_expression=cron,
                interval_second=seconds,
                max_concurrency=1,
                no_catchup=True,
                pipeline_id=uploaded.pipeline_id,
                version_id=uploaded.version_id,
                params={"task": task.to_json()},
            )
        identity = recurring.recurring_run_id
        return Submitted(identity, f"{self._ui}/#/recurringrun/details/{identity}", uploaded.version)

    def runs(self, limit: int = 20) -> list[ClusterRun]:
        """The latest runs of FedEdge's, newest first, without their steps; others' runs are passed over.

        Raises:
            KubeflowError: the API refused.
        """
        found: list[ClusterRun] = []
        token = ""
        with self._asking("list the runs of"):
            for _ in range(PAGES):
                page = self._client.list_runs(
                    page_token=token,
                    page_size=MOST,
                    sort_by="created_at desc",
                    namespace=os.environ.get("KFP_NAMESPACE"),
                )
                found += filter(None, map(read, page.runs or []))
                token = page.next_page_token or ""
                if len(found) >= limit or not token:
                    break
        return found[:limit]

    def get(self, run_id: str) -> ClusterRun:
        """A run with its steps.

        Raises:
            KubeflowError: there is no such run, it is none of FedEdge's, or the API refused.
        """
        with self._asking(f"read run {run_id} of"):
            run = read(self._client.get_run(run_id))
        if run is None:
            raise KubeflowError(
                f"run {run_id} is not one of FedEdge: `fededge runs --on kubeflow` lists those that are"
            )
        return run

    def cancel(self, run_id: str) -> None:
        """End a run that is under way.

        Raises:
            KubeflowError: there is no such run, or the API refused.
        """
        with self._asking(f"cancel run {run_id} on"):
            self._client.terminate_run(run_id)

    def _experiment(self, task: FederatedTask) -> str:
        return str(self._client.create_experiment(task.name).experiment_id)

    @contextlib.contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into KubeflowError, and keep it from printing."""
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except kfp_server_api.ApiException as error:
            raise KubeflowError(
                f"cannot {doing} Kubeflow Pipelines at {self.host}: {_reason(error)}. {_remedy(error.status)}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError, kfp_server_api.OpenApiException) as error:
            raise KubeflowError(
                f"cannot {doing} Kubeflow Pipelines at {self.host}: {' '.join(str(error).split())}. "
                "Check KF_PIPELINES_ENDPOINT and that it is the Pipelines v2 API"
            ) from error


def namespace() -> str:
    """Where the pods of runs are."""
    return os.environ.get("KFP_NAMESPACE") or "kubeflow"


class _Client(kfp.Client):
    """The SDK's client, asking for the server's health once instead of for half a minute."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Health of the server; see kfp.Client."""
        return self._healthz_api.healthz_service_get_healthz()

    def told_of_itself(self) -> dict[str, Any]:
        """As get_kfp_healthz, with the version, for which the SDK has no word."""
        told: dict[str, Any] = self._healthz_api.api_client.call_api(
            "/apis/v2beta1/healthz",
            "GET",
            header_params={"Accept": "application/json"},
            response_type="object",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
        )
        return told


def _reach(host: str) -> None:
    """Fail at once where nobody listens: the SDK would try again and again."""
    parts = urlsplit(host)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:
        raise KubeflowError(
            f"cannot reach Kubeflow Pipelines at {host}: {error}. Check KF_PIPELINES_ENDPOINT, and that the "
            "cluster or the port-forward is up"
        ) from error


def _equals(key: str, value: str) -> str:
    predicate: Mapping[str, str] = {"operation": "EQUALS", "key": key, "stringValue": value}
    return json.dumps({"predicates": [predicate]})


def _reason(error: kfp_server_api.ApiException) -> str:
    try:
        body = json.loads(error.body or "")
        text = body.get("message") or body.get("error_message") or body.get("error")
    except (ValueError, AttributeError):
        text = None
    return " ".join(f"{error.status} {text or error.reason}".split()).rstrip(".")


def _remedy(status: int | None) -> str:
    if status in (401, 403):
        return "Set KFP_EXISTING_TOKEN or KF_PIPELINES_SA_TOKEN_PATH, and KFP_NAMESPACE to one of yours"
    return "Check the message, and that the server is Kubeflow Pipelines 2.5 or newer"
