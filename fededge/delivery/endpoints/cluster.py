"""SeldonDeployments on a Kubernetes cluster: read, apply, wait.

The cluster is the one that KUBECONFIG or ~/.kube/config names, or the one this process runs in.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fededge.delivery.endpoints.seldon import GROUP, PLURAL, VERSION
from fededge.errors import EndpointError

MANAGER = "fededge"
TIMEOUT = (5, 30)  # seconds to connect and to answer
POLL = 2.0


class Cluster:
    """A connection to the cluster.

    Raises:
        EndpointError: no cluster is configured.
    """

    def __init__(self) -> None:
        from kubernetes import client, config
        from kubernetes.dynamic import DynamicClient, Resource

        settings = client.Configuration()
        file = os.environ.get("KUBECONFIG")
        try:
            config.load_config(client_configuration=settings, **({"config_file": file} if file else {}))
        except config.ConfigException as error:
            raise EndpointError(
                f"no Kubernetes cluster to deploy to: {_line(error)}. Set KUBECONFIG, or run on one, or set "
                "FEDEDGE_PLATFORM=local"
            ) from error
        settings.retries = 1
        self._host: str = settings.host
        # Nothing is discovered: that asks for every resource of the cluster, and the one we need is known.
        connection = DynamicClient(client.ApiClient(settings), discoverer=lambda *_: None)
        self._deployments = Resource(
            prefix="apis",
            group=GROUP,
            api_version=VERSION,
            kind="SeldonDeployment",
            name=PLURAL,
            namespaced=True,
            client=connection,
        )

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The SeldonDeployment that stands, or None.

        Raises:
            EndpointError: the cluster cannot be reached or refuses.
        """
        from kubernetes.client import ApiException

        with self._translated(f"read {namespace}/{name} from"):
            try:
                found = self._deployments.get(name=name, namespace=namespace, _request_timeout=TIMEOUT)
                return dict(found.to_dict())
            except ApiException as error:
                if error.status == 404 and PLURAL in str(error.body):
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
            self._deployments.server_side_apply(
                body=dict(manifest), field_manager=MANAGER, force_conflicts=True, _request_timeout=TIMEOUT
            )

    def wait(self, namespace: str, name: str, deadline: float = 600.0) -> None:
        """Return when the deployment is available.

        Raises:
            EndpointError: it failed, or was not available within `deadline` seconds.
        """
        end = time.monotonic() + deadline
        while True:
            status = (self.get(namespace, name) or {}).get("status") or {}
            state = status.get("state")
            if state == "Available":
                return
            if state == "Failed" or time.monotonic() > end:
                what = status.get("description") or "no reason given"
                raise EndpointError(
                    f"SeldonDeployment {namespace}/{name} is {state or 'not yet seen by Seldon'}: {what}. See "
                    f"kubectl -n {namespace} describe sdep {name}"
                )
            time.sleep(POLL)

    @contextlib.contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            raise EndpointError(
                f"cannot {action} the cluster at {self._host}: {error.status} {_message(error)}. Check that "
                "Seldon Core is installed there and that you may edit its resources"
            ) from error
        except (HTTPError, OSError) as error:
            raise EndpointError(
                f"cannot {action} the cluster at {self._host}: {_line(error)[:200]}. Start it, or correct "
                "KUBECONFIG"
            ) from error


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


def _message(error: Any) -> str:
    try:
        return _line(json.loads(error.body)["message"])[:300]
    except (TypeError, ValueError, KeyError):
        return _line(error.reason)


def _line(text: object) -> str:
    return " ".join(str(text).split())
