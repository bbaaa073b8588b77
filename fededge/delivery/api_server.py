"""A Kubernetes API server, asked by path: the one that KUBECONFIG or ~/.kube/config names, or this pod's own."""

import contextlib
import io
import json
import os
from collections.abc import Mapping
from typing import Any

from fededge.errors import KubeflowError

TIMEOUT = (5, 20)
"""Seconds to connect and to answer."""


class Refused(KubeflowError):
    """The API server does not let this user ask that."""


class ApiServer:
    """A connection to a Kubernetes API server; `client` is the SDK's.

    Raises:
        KubeflowError: no cluster is configured.
    """

    def __init__(self) -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        file = os.environ.get("KUBECONFIG")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                config.load_config(client_configuration=settings, **({"config_file": file} if file else {}))
        except config.ConfigException as error:
            raise KubeflowError(
                f"no Kubernetes cluster is configured: {line(error).rstrip('.')}. Set KUBECONFIG"
            ) from error
        settings.retries = 1
        self.host: str = settings.host
        self.client: Any = client.ApiClient(settings)

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """The object at `path`; None where there is none.

        Raises:
            Refused: this user may not read it.
            KubeflowError: the server cannot be reached, or answers with another error.
        """
        found: dict[str, Any] | None = self._ask("GET", path, query, None, "object")
        return found

    def text(self, path: str, **query: str) -> str | None:
        """As `get`, for what is plain text, such as a log."""
        found: str | None = self._ask("GET", path, query, None, "str")
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the server makes of `body`; raises as `get`."""
        made: dict[str, Any] = self._ask("POST", path, {}, body, "object")
        return made

    def delete(self, path: str) -> None:
        """Remove the object at `path`; none there is as good. Raises as `get`."""
        self._ask("DELETE", path, {"gracePeriodSeconds": "0"}, None, "object")

    def _ask(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, kind: str
    ) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self.client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json, text/plain"},
                body=body,
                response_type=kind,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )
        except ApiException as error:
            if error.status == 404 and method in ("GET", "DELETE"):
                return None
            raised = Refused if error.status in (401, 403) else KubeflowError
            raise raised(
                f"the Kubernetes API at {self.host} answers {error.status} to {method} {path}: {reason(error)}. "
                "Check KUBECONFIG and this user's rights"
            ) from error
        except (HTTPError, OSError) as error:
            raise KubeflowError(
                f"cannot reach the Kubernetes API at {self.host}: {line(error)[:200]}. Start it, or correct KUBECONFIG"
            ) from error


def reason(error: Any) -> str:
    """What the API server said of a request that it refused (kubernetes.client.ApiException), in one line."""
    try:
        return line(json.loads(error.body)["message"])[:300]
    except (TypeError, ValueError, KeyError):
        return line(error.reason)


def line(text: object) -> str:
    """`text` in one line."""
    return " ".join(str(text).split())
