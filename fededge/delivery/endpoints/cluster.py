"""SeldonDeployments on a Kubernetes cluster: read, apply, wait until the new version answers.

The cluster is the one that KUBECONFIG or ~/.kube/config names, or the one this process runs in.
"""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from fededge.delivery.api_server import ApiServer, line, reason
from fededge.delivery.endpoints.rollout import REMEDIES, Progress, is_ready, progress
from fededge.delivery.endpoints.seldon import GROUP, PLURAL, VERSION, VERSION_LABEL, deployment_name
from fededge.errors import EndpointError, KubeflowError

MANAGER = "fededge"
TIMEOUT = (5, 30)  # seconds to connect and to answer
POLL = 1.0
TELL = 5.0  # seconds between lines that say what is waited for
RIGHTS = "give the run's service account the rights of manifests/base/endpoints there"


class _Unanswered(EndpointError):
    """The cluster gave no answer this time: ask again."""


class Cluster:
    """A connection to the cluster.

    Raises:
        EndpointError: no cluster is configured.
    """

    def __init__(self) -> None:
        from kubernetes.dynamic import DynamicClient, Resource

        try:
            server = ApiServer()
        except KubeflowError as error:
            raise EndpointError(f"{error}, or run on a cluster, or set FEDEDGE_PLATFORM=local") from error
        self._host: str = server.host
        # Nothing is discovered: that asks for every resource of the cluster, and those we need are known.
        self._client = server.client
        connection = DynamicClient(self._client, discoverer=lambda *_: None)

        def resource(prefix: str, group: str, version: str, kind: str, name: str) -> Any:
            return Resource(
                prefix=prefix,
                group=group,
                api_version=version,
                kind=kind,
                name=name,
                namespaced=True,
                client=connection,
            )

        self._seldon = resource("apis", GROUP, VERSION, "SeldonDeployment", PLURAL)
        self._deployments = resource("apis", "apps", "v1", "Deployment", "deployments")
        self._pods = resource("api", "", "v1", "Pod", "pods")

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The SeldonDeployment that stands, or None.

        Raises:
            EndpointError: the cluster cannot be reached or refuses.
        """
        return self._read(self._seldon, namespace, name)

    def _read(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        from kubernetes.client import ApiException

        with self._translated(f"read {resource.kind} {namespace}/{name} from"):
            try:
                found = resource.get(name=name, namespace=namespace, _request_timeout=TIMEOUT)
                return dict(found.to_dict())
            except ApiException as error:
                if error.status == 404 and resource.name in str(error.body):
                    return None
                raise

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Server-side apply: creates or updates; applied again, it changes nothing.

        Raises:
            EndpointError: the cluster cannot be reached or refuses.
        """
        _readable(manifest)
        metadata = manifest["metadata"]
        with self._translated(f"apply {metadata['namespace']}/{metadata['name']} to"):
            self._seldon.server_side_apply(
                body=dict(manifest), field_manager=MANAGER, force_conflicts=True, _request_timeout=TIMEOUT
            )

    def progress(self, manifest: Mapping[str, Any]) -> Progress:
        """How far what `manifest` asks for has come; of several predictors, the one that is behind.

        Raises:
            EndpointError: the cluster cannot be reached or refuses.
        """
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        reports = [self._progress(namespace, name, each) for each in manifest["spec"]["predictors"]]
        behind = min(reports, key=lambda report: (report.done, not report.trouble))
        if behind.trouble:
            return behind
        status = (self.get(namespace, name) or {}).get("status") or {}
        state, words = status.get("state"), line(status.get("description") or "no reason given")
        if state == "Failed":
            return replace(behind, done=False, trouble="Failed", words=f"Seldon says Failed: {words}")
        if behind.done and state != "Available":  # its services are made last
            return replace(behind, done=False, words=f"Seldon says {state}: {words}")
        return behind

    def answering(self, current: Mapping[str, Any]) -> set[str]:
        """Names of the predictors of a SeldonDeployment whose own versions answer.

        Raises:
            EndpointError: the cluster cannot be reached or refuses.
        """
        namespace, name = current["metadata"]["namespace"], current["metadata"]["name"]
        predictors = current["spec"]["predictors"]
        return {each["name"] for each in predictors if self._progress(namespace, name, each).done}

    def _progress(self, namespace: str, name: str, predictor: Mapping[str, Any]) -> Progress:
        deployment = deployment_name(name, predictor["name"])
        standing = self._read(self._deployments, namespace, deployment)
        return progress(predictor, standing, self._pods_of(namespace, deployment))

    def _pods_of(self, namespace: str, deployment: str) -> list[dict[str, Any]]:
        with self._translated(f"list the pods of {namespace}/{deployment} on"):
            found = self._pods.get(
                namespace=namespace, label_selector=f"app={deployment}", _request_timeout=TIMEOUT
            )
            return list(found.to_dict()["items"])

    def tunnel(self, namespace: str, deployment: str, port: int) -> socket.socket:
        """A connection to `port` of a ready pod of a Deployment, through the API server.

        Raises:
            EndpointError: no pod is ready; the cluster cannot be reached or refuses.
        """
        from kubernetes.client import CoreV1Api
        from kubernetes.stream import portforward

        ready = [pod for pod in self._pods_of(namespace, deployment) if is_ready(pod)]
        if not ready:
            raise EndpointError(
                f"no pod of {namespace}/{deployment} is ready: see `kubectl -n {namespace} get pods`, or deploy again"
            )
        name = ready[0]["metadata"]["name"]
        with self._translated(f"forward a port of pod {namespace}/{name} from"):
            forward = CoreV1Api(self._client).connect_get_namespaced_pod_portforward
            made = portforward(forward, name, namespace, ports=str(port)).socket(port)
            made.setblocking(True)
            return cast(socket.socket, made)

    def wait(self, manifest: Mapping[str, Any], patience: float = 45.0, deadline: float = 600.0) -> None:
        """Return when the versions in `manifest` answer and no others; say every few seconds what that waits for.

        A poll that the cluster does not answer is repeated.

        Args:
            manifest: as it was applied.
            patience: seconds for what does not heal by itself, such as a server that ends with an error.
            deadline: seconds in all.

        Raises:
            EndpointError: a version does not start in time, with the pods' own words; the cluster refuses.
        """
        begun = time.monotonic()
        trouble_since = told = None
        while True:
            found = self._attempt(manifest)
            if found.done:
                return
            now = time.monotonic()
            trouble_since = (trouble_since or now) if found.trouble else None
            hopeless = trouble_since is not None and now - trouble_since >= patience
            if hopeless or now - begun >= deadline:
                raise EndpointError(_given_up(manifest, found, now - begun))
            if told is None or now - told >= TELL:
                told = now
                name = manifest["metadata"]["name"]
                print(f"fededge: endpoint {name}, {now - begun:.0f} s: {found.words}", flush=True)
            time.sleep(POLL)

    def _attempt(self, manifest: Mapping[str, Any]) -> Progress:
        try:
            return self.progress(manifest)
        except _Unanswered as error:
            return Progress(False, str(error))

    @contextlib.contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            kind = _Unanswered if error.status == 429 or error.status >= 500 else EndpointError
            remedy = RIGHTS if error.status == 403 else "check that Seldon Core is installed there and runs"
            raise kind(
                f"cannot {action} the cluster at {self._host}: {error.status} {reason(error)}: {remedy}"
            ) from error
        except (HTTPError, OSError) as error:
            raise _Unanswered(
                f"cannot {action} the cluster at {self._host}: {line(error)[:200]}. Start it, or correct "
                "KUBECONFIG"
            ) from error


def _given_up(manifest: Mapping[str, Any], found: Progress, seconds: float) -> str:
    metadata = manifest["metadata"]
    version = manifest["spec"]["predictors"][-1]["labels"][VERSION_LABEL]
    stays = (
        f"version {', '.join(found.answering)} goes on answering" if found.answering else "nothing answers"
    )
    remedy = REMEDIES[found.trouble] if found.trouble else "see `kubectl describe` of it and its pods"
    return (
        f"version {version} does not run at {metadata['namespace']}/{metadata['name']} after {seconds:.0f} s: "
        f"{found.words}. Meanwhile {stays}. Remedy: {remedy}"
    )


def _readable(manifest: Mapping[str, Any]) -> None:
    for predictor in manifest["spec"]["predictors"]:
        for parameter in predictor["graph"].get("parameters", []):
            url = parameter["value"]
            if parameter["name"] == "model_url" and (
                "://" not in url or url.startswith(("file:", "memory:"))
            ):
                raise EndpointError(
                    f"a cluster cannot read {url}: set FEDEDGE_STORAGE to a store that it reaches, such as "
                    "s3://bucket"
                )
